#include "text/chat/filters.h"

#include <map>

#include "text/chat/python_text.h"

namespace espalier::text::chat {

Builtin find_filter(std::string_view name) {
  static const auto kFilters = [] {
    std::map<std::string_view, Builtin> filters;
    for (const auto& group : {text_filters(), number_filters(), collection_filters()})
      for (const NamedFilter& entry : group) filters.emplace(entry.name, entry.filter);
    return filters;
  }();
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

Item apply_filter(const std::string& name, const Item& value, const Arguments& arguments) {
  const Builtin filter = find_filter(name);
  if (filter == nullptr) fail("TemplateRuntimeError", "No filter named " + repr_string(name) + ".");
  return filter(value, arguments);
}

Item get_path(const Item& item, const Item& path, const Item& fallback) {
  Items parts;
  const std::string dot = ".";
  if (path.is_string()) {
    for (const std::string& part : split(path.as_string(), &dot, -1, false)) {
      const bool digits =
          !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
      const auto index = digits ? parse_integer(part, 10) : std::nullopt;
      parts.push_back(index ? Item(*index) : Item(part));
    }
  } else if (!path.is_none()) {
    parts.push_back(path);
  }
  Item found = item;
  for (const Item& part : parts) {
    found = get_element(found, part);
    if (found.is_undefined() && !fallback.is_none()) found = fallback;
  }
  return found;
}

Item without_case(const Item& item) {
  return item.is_string() ? Item(lower(item.as_string())) : item;
}

}  // namespace espalier::text::chat
