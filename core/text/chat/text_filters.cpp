#include <algorithm>

#include "espalier/base/utf8.h"
#include "text/chat/filters.h"
#include "text/chat/limits.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {

namespace {

Item string_filter(const Item& value, const Arguments&) {
  return value.is_string() ? value : Item(to_str(value));
}

template <std::string (*Change)(std::string_view)>
Item changed_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader no_arguments("filter", arguments, {});
  return text_like(value, Change(to_str(value)));
}

Item trim_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("trim", arguments, {"chars"});
  if (reader.find(0) == nullptr || reader.find(0)->is_none())
    return text_like(value, strip(to_str(value), nullptr, true, true));
  const std::string chars = reader.text(0);
  return text_like(value, strip(to_str(value), &chars, true, true));
}

/// Upper case behind white space, hyphens and opening brackets.
Item title_filter(const Item& value, const Arguments&) {
  std::string out;
  std::u32string word;
  const auto flush = [&] {
    if (word.empty()) return;
    out += upper(to_utf8(word.substr(0, 1))) + lower(to_utf8(word.substr(1)));
    word.clear();
  };
  for (const char32_t point : to_code_points(to_str(value))) {
    if (is_space(point) || std::u32string_view(U"-({[<").find(point) != std::u32string_view::npos) {
      flush();
      append_utf8(out, point);
    } else {
      word += point;
    }
  }
  flush();
  return out;
}

Item replace_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("replace", arguments, {"old", "new", "count"});
  const bool counted = reader.find(2) != nullptr && !reader.find(2)->is_none();
  return replace(to_str(value), to_str(reader.require(0)), to_str(reader.require(1)),
                 counted ? reader.integer(2) : -1);
}

Item format_filter(const Item& value, const Arguments& arguments) {
  if (!arguments.named.empty()) {
    if (!arguments.positional.empty())
      fail("FilterArgumentError", "can't handle positional and keyword arguments at the same time");
    auto dict = std::make_shared<Dict>();
    for (const auto& [name, item] : arguments.named) dict->set(Item(name), item);
    return percent_format(value.is_string() ? value : to_str(value), Item(dict));
  }
  return percent_format(value.is_string() ? value : to_str(value),
                        make_tuple(arguments.positional));
}

Item center_filter(const Item& value, const Arguments& arguments) {
  return text_like(value,
                   centered(to_str(value),
                            ArgumentReader("center", arguments, {"width"}).integer_or(0, 80), " "));
}

Item indent_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("indent", arguments, {"width", "first", "blank"});
  const Item* width = reader.find(0);
  const std::string indention = width != nullptr && width->is_string()
                                    ? width->as_string()
                                    : repeated(" ", reader.integer_or(0, 4));
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_string())
    fail("TypeError", "unsupported operand type(s) for +=: '" + type_name(value) + "' and 'str'");
  const bool blank = reader.truth_or(2, false);
  const std::vector<std::string> lines = split_lines(value.as_string() + "\n", false);
  std::string out = reader.truth_or(1, false) ? indention : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += "\n";
    if (i > 0 && (blank || !lines[i].empty())) out += indention;
    out += lines[i];
    if (out.size() > kMostOutputBytes) Meter::charge_bytes(out.size());
  }
  return text_like(value, std::move(out));
}

Item truncate_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const std::int64_t most = reader.integer_or(0, 255);
  const Item end = reader.find(2) == nullptr ? Item("...") : *reader.find(2);
  const auto end_size = length(end);
  const bool has_leeway = reader.find(3) != nullptr && !reader.find(3)->is_none();
  const std::int64_t leeway = has_leeway ? reader.integer(3) : 5;
  if (most < end_size)
    fail("AssertionError",
         "expected length >= " + std::to_string(end_size) + ", got " + std::to_string(most));
  if (leeway < 0) fail("AssertionError", "expected leeway >= 0, got " + std::to_string(leeway));
  if (length(value) <= most + leeway) return value;
  if (!value.is_string())
    return apply_operator("+", get_slice(value, {}, most - end_size, {}), end);
  std::string kept = substring(value.as_string(), 0, static_cast<std::size_t>(most - end_size));
  if (!reader.truth_or(1, false)) {
    const std::size_t space = kept.rfind(' ');
    if (space != std::string::npos) kept.resize(space);
  }
  return apply_operator("+", text_like(value, std::move(kept)), end);
}

Item word_count_filter(const Item& value, const Arguments&) {
  std::int64_t count = 0;
  bool inside = false;
  for (const char32_t point : to_code_points(to_str(value))) {
    const bool word = is_word(point);
    count += word && !inside ? 1 : 0;
    inside = word;
  }
  return count;
}

Item escape_filter(const Item& value, const Arguments&) { return Item::markup(escaped(value)); }
Item force_escape_filter(const Item& value, const Arguments&) {
  return Item::markup(escaped(to_str(value)));
}
Item safe_filter(const Item& value, const Arguments&) { return Item::markup(to_str(value)); }

std::string url_quoted(const Item& item, bool query) {
  constexpr const char* kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : to_str(item)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte < 0x80 && (std::isalnum(byte) != 0 ||
                                       std::string_view("_.-~").find(c) != std::string_view::npos);
    if (plain || (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += {'%', kHex[byte >> 4U], kHex[byte & 15U]};
    }
  }
  return out;
}

Item urlencode_filter(const Item& value, const Arguments&) {
  if (!value.is(Kind::kDict) && !value.is_sequence()) return url_quoted(value, false);
  std::vector<std::pair<Item, Item>> pairs;
  if (value.is(Kind::kDict)) {
    pairs = value.as<Dict>().entries;
  } else {
    for (const Item& item : iterate(value)) {
      const Items pair = iterate(item);
      if (pair.size() != 2) fail("ValueError", "not enough values to unpack (expected 2)");
      pairs.emplace_back(pair[0], pair[1]);
    }
  }
  std::string out;
  for (const auto& [key, item] : pairs)
    out += (out.empty() ? "" : "&") + url_quoted(key, true) + "=" + url_quoted(item, true);
  return out;
}

Item json_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("tojson", arguments,
                              {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = reader.truth_or(0, false);
  options.sort_keys = reader.truth_or(3, false);
  const Item* indent = reader.find(1);
  if (indent != nullptr && !indent->is_none()) {
    options.indent = indent->is_string()
                         ? indent->as_string()
                         : repeated(" ", std::min<std::int64_t>(reader.integer(1), 1000));
    options.item_separator = ",";
  }
  const Item* separators = reader.find(2);
  if (separators != nullptr && !separators->is_none()) {
    const Items parts = iterate(*separators);
    if (parts.size() != 2)
      fail("ValueError",
           "not enough values to unpack (expected 2, got " + std::to_string(parts.size()) + ")");
    options.item_separator = to_str(parts[0]);
    options.key_separator = to_str(parts[1]);
  }
  return to_json(value, options);
}

constexpr NamedFilter kFilters[] = {
    {"string", string_filter},
    {"safe", safe_filter},
    {"upper", changed_filter<upper>},
    {"lower", changed_filter<lower>},
    {"capitalize", changed_filter<capitalize>},
    {"title", title_filter},
    {"trim", trim_filter},
    {"replace", replace_filter},
    {"format", format_filter},
    {"center", center_filter},
    {"indent", indent_filter},
    {"truncate", truncate_filter},
    {"wordcount", word_count_filter},
    {"escape", escape_filter},
    {"e", escape_filter},
    {"forceescape", force_escape_filter},
    {"urlencode", urlencode_filter},
    {"tojson", json_filter},
};

}  // namespace

std::span<const NamedFilter> text_filters() { return kFilters; }

}  // namespace espalier::text::chat
