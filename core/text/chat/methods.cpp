// Methods of str, list, tuple, dict and numbers.
#include <algorithm>
#include <cmath>
#include <map>

#include "espalier/base/utf8.h"
#include "text/chat/limits.h"
#include "text/chat/operations.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

using Method = Item (*)(const Item& self, const Arguments& arguments);
using Methods = std::map<std::string, Method, std::less<>>;

const std::string& own_text(const Item& self) { return self.as_string(); }

Item string_list(const std::vector<std::string>& parts) {
  Items items;
  for (const std::string& part : parts) items.emplace_back(part);
  return make_list(std::move(items));
}

template <bool Left, bool Right>
Item str_strip(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("strip", arguments, {"chars"});
  const Item* chars = reader.find(0);
  if (chars == nullptr || chars->is_none()) return strip(own_text(self), nullptr, Left, Right);
  const std::string set = reader.text(0);
  return strip(own_text(self), &set, Left, Right);
}

template <bool FromRight>
Item str_split(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("split", arguments, {"sep", "maxsplit"});
  const std::int64_t most = reader.integer_or(1, -1);
  const Item* separator = reader.find(0);
  if (separator == nullptr || separator->is_none())
    return string_list(split(own_text(self), nullptr, most, FromRight));
  const std::string text = reader.text(0);
  if (text.empty()) fail("ValueError", "empty separator");
  return string_list(split(own_text(self), &text, most, FromRight));
}

/// Bounds of find, count, startswith and the like as bytes; false when they exclude everything.
bool byte_bounds(const std::string& text, const ArgumentReader& reader, std::size_t& begin,
                 std::size_t& end) {
  const auto size = static_cast<std::int64_t>(count_code_points(text));
  const auto bound = [&](std::size_t place, std::int64_t fallback) {
    const Item* item = reader.find(place);
    std::int64_t value = item == nullptr || item->is_none() ? fallback : reader.integer(place);
    if (value < 0) value = std::max<std::int64_t>(value + size, 0);
    return value;
  };
  const std::int64_t first = bound(1, 0);
  const std::int64_t last = std::min(bound(2, size), size);
  if (first > size || first > last) return false;
  begin = substring(text, 0, static_cast<std::size_t>(first)).size();
  end = substring(text, 0, static_cast<std::size_t>(last)).size();
  return true;
}

template <bool Ends>
Item str_affix(const Item& self, const Arguments& arguments) {
  const char* name = Ends ? "endswith" : "startswith";
  const ArgumentReader reader(name, arguments, {"affix", "start", "end"});
  const Item& affix = reader.require(0);
  std::size_t begin = 0;
  std::size_t end = 0;
  const bool valid = byte_bounds(own_text(self), reader, begin, end);
  const std::string_view text =
      valid ? std::string_view(own_text(self)).substr(begin, end - begin) : std::string_view();
  const auto matches = [&](const Item& candidate) {
    if (candidate.is_undefined()) fail_undefined(candidate);
    if (!candidate.is_string())
      fail("TypeError", std::string(name) + " first arg must be str or a tuple of str, not " +
                            type_name(candidate));
    return valid &&
           (Ends ? text.ends_with(candidate.as_string()) : text.starts_with(candidate.as_string()));
  };
  if (!affix.is(Kind::kTuple)) return matches(affix);
  const Items& options = affix.as<Sequence>().items;
  return std::any_of(options.begin(), options.end(), matches);
}

template <bool FromRight, bool MustExist>
Item str_find(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("find", arguments, {"sub", "start", "end"});
  const std::string sub = reader.text(0);
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t found = std::string::npos;
  if (byte_bounds(own_text(self), reader, begin, end)) {
    const std::string_view text = std::string_view(own_text(self)).substr(begin, end - begin);
    found = FromRight ? text.rfind(sub) : text.find(sub);
  }
  if (found == std::string::npos) {
    if (MustExist) fail("ValueError", "substring not found");
    return -1;
  }
  return static_cast<std::int64_t>(
      count_code_points(std::string_view(own_text(self)).substr(0, begin + found)));
}

Item str_count(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("count", arguments, {"sub", "start", "end"});
  const std::string sub = reader.text(0);
  std::size_t begin = 0;
  std::size_t end = 0;
  if (!byte_bounds(own_text(self), reader, begin, end)) return 0;
  const std::string_view text = std::string_view(own_text(self)).substr(begin, end - begin);
  if (sub.empty()) return static_cast<std::int64_t>(count_code_points(text)) + 1;
  std::int64_t count = 0;
  for (std::size_t at = text.find(sub); at != std::string_view::npos;
       at = text.find(sub, at + sub.size()))
    ++count;
  return count;
}

Item str_replace(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("replace", arguments, {"old", "new", "count"});
  return replace(own_text(self), reader.text(0), reader.text(1), reader.integer_or(2, -1));
}

Item str_join(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("join", arguments, {"iterable"});
  std::string out;
  std::size_t place = 0;
  for (const Item& item : iterate(reader.require(0))) {
    if (!item.is_string())
      fail("TypeError", "sequence item " + std::to_string(place) + ": expected str instance, " +
                            type_name(item) + " found");
    if (place++ > 0) out += own_text(self);
    out += item.as_string();
    if (out.size() > kMostOutputBytes) Meter::charge_bytes(out.size());
  }
  return out;
}

template <bool FromRight>
Item str_partition(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("partition", arguments, {"sep"});
  const std::string separator = reader.text(0);
  if (separator.empty()) fail("ValueError", "empty separator");
  const std::string& text = own_text(self);
  const std::size_t found = FromRight ? text.rfind(separator) : text.find(separator);
  if (found == std::string::npos)
    return FromRight ? make_tuple({"", "", text}) : make_tuple({text, "", ""});
  return make_tuple({text.substr(0, found), separator, text.substr(found + separator.size())});
}

Item str_split_lines(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("splitlines", arguments, {"keepends"});
  return string_list(split_lines(own_text(self), reader.truth_or(0, false)));
}

std::string read_fill(const ArgumentReader& reader) {
  std::string fill = reader.text_or(1, " ");
  if (count_code_points(fill) != 1)
    fail("TypeError", "The fill character must be exactly one character long");
  return fill;
}

Item str_center(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("center", arguments, {"width", "fillchar"});
  return centered(own_text(self), reader.integer(0), read_fill(reader));
}

template <bool Left>
Item str_justify(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader(Left ? "ljust" : "rjust", arguments, {"width", "fillchar"});
  const std::string fill = repeated(read_fill(reader), reader.integer(0) - length(self));
  return Left ? own_text(self) + fill : fill + own_text(self);
}

Item str_zfill(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("zfill", arguments, {"width"});
  const std::string& text = own_text(self);
  const std::string zeros = repeated("0", reader.integer(0) - length(self));
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return text.substr(0, sign) + zeros + text.substr(sign);
}

Item str_remove_prefix(const Item& self, const Arguments& arguments) {
  const std::string affix = ArgumentReader("removeprefix", arguments, {"prefix"}).text(0);
  const std::string& text = own_text(self);
  return text.starts_with(affix) ? text.substr(affix.size()) : text;
}

Item str_remove_suffix(const Item& self, const Arguments& arguments) {
  const std::string affix = ArgumentReader("removesuffix", arguments, {"suffix"}).text(0);
  const std::string& text = own_text(self);
  return text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text;
}

Item str_format(const Item& self, const Arguments& arguments) {
  return brace_format(self, arguments);
}

template <std::string (*Change)(std::string_view)>
Item str_changed(const Item& self, const Arguments& arguments) {
  const ArgumentReader no_arguments("method", arguments, {});
  return Change(own_text(self));
}

/// All characters are of a class, and there is one.
template <bool (*Accept)(char32_t)>
Item str_all(const Item& self, const Arguments& arguments) {
  const ArgumentReader no_arguments("method", arguments, {});
  const std::u32string points = to_code_points(own_text(self));
  return !points.empty() && std::all_of(points.begin(), points.end(), Accept);
}

bool is_alphanumeric(char32_t point) { return point != '_' && is_word(point); }
bool is_digit_like(char32_t point) {
  return is_decimal(point) || point == 0xB2 || point == 0xB3 || point == 0xB9 ||
         (point >= 0x2070 && point <= 0x2089) || (point >= 0x2460 && point <= 0x2468);
}
bool is_numeric_like(char32_t point) {
  return is_word(point) && point != '_' && !is_alphabetic(point);
}
bool is_ascii(char32_t point) { return point < 0x80; }

Item str_is_lower(const Item& self, const Arguments&) {
  const std::u32string points = to_code_points(own_text(self));
  return std::any_of(points.begin(), points.end(), is_lower) &&
         std::none_of(points.begin(), points.end(), is_upper);
}
Item str_is_upper(const Item& self, const Arguments&) {
  const std::u32string points = to_code_points(own_text(self));
  return std::any_of(points.begin(), points.end(), is_upper) &&
         std::none_of(points.begin(), points.end(), is_lower);
}
Item str_is_ascii(const Item& self, const Arguments&) {
  const std::u32string points = to_code_points(own_text(self));
  return std::all_of(points.begin(), points.end(), is_ascii);
}
Item str_is_title(const Item& self, const Arguments&) {
  const std::string& text = own_text(self);
  return title(text) == text && upper(text) != lower(text);
}

const Methods& string_methods() {
  static const Methods kMethods = {
      {"strip", str_strip<true, true>},
      {"lstrip", str_strip<true, false>},
      {"rstrip", str_strip<false, true>},
      {"split", str_split<false>},
      {"rsplit", str_split<true>},
      {"splitlines", str_split_lines},
      {"startswith", str_affix<false>},
      {"endswith", str_affix<true>},
      {"find", str_find<false, false>},
      {"rfind", str_find<true, false>},
      {"index", str_find<false, true>},
      {"rindex", str_find<true, true>},
      {"count", str_count},
      {"replace", str_replace},
      {"join", str_join},
      {"partition", str_partition<false>},
      {"rpartition", str_partition<true>},
      {"center", str_center},
      {"ljust", str_justify<true>},
      {"rjust", str_justify<false>},
      {"zfill", str_zfill},
      {"removeprefix", str_remove_prefix},
      {"removesuffix", str_remove_suffix},
      {"format", str_format},
      {"upper", str_changed<upper>},
      {"lower", str_changed<lower>},
      {"casefold", str_changed<lower>},
      {"title", str_changed<title>},
      {"capitalize", str_changed<capitalize>},
      {"swapcase", str_changed<swapcase>},
      {"isspace", str_all<is_space>},
      {"isalpha", str_all<is_alphabetic>},
      {"isalnum", str_all<is_alphanumeric>},
      {"isdecimal", str_all<is_decimal>},
      {"isdigit", str_all<is_digit_like>},
      {"isnumeric", str_all<is_numeric_like>},
      {"isprintable", str_all<is_printable>},
      {"islower", str_is_lower},
      {"isupper", str_is_upper},
      {"isascii", str_is_ascii},
      {"istitle", str_is_title},
  };
  return kMethods;
}

Item view_of(const Item& self, const char* name, bool keys, bool values) {
  Items items;
  for (const auto& [key, value] : self.as<Dict>().entries)
    items.push_back(keys && values ? make_tuple({key, value}) : keys ? key : value);
  Meter::charge(items.size());
  return std::make_shared<Sequence>(Kind::kView, std::move(items), name);
}

Item dict_get(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("get", arguments, {"key", "default"});
  check_hashable(reader.require(0));
  const Item* found = self.as<Dict>().find(reader.require(0));
  if (found != nullptr) return *found;
  return reader.find(1) == nullptr ? Item() : *reader.find(1);
}

Item dict_copy(const Item& self, const Arguments&) {
  auto copy = std::make_shared<Dict>();
  copy->entries = self.as<Dict>().entries;
  Meter::charge(copy->entries.size());
  return copy;
}

const Methods& dict_methods() {
  static const Methods kMethods = {
      {"get", dict_get},
      {"copy", dict_copy},
      {"items",
       [](const Item& self, const Arguments&) { return view_of(self, "dict_items", true, true); }},
      {"keys",
       [](const Item& self, const Arguments&) { return view_of(self, "dict_keys", true, false); }},
      {"values", [](const Item& self,
                    const Arguments&) { return view_of(self, "dict_values", false, true); }},
  };
  return kMethods;
}

Item sequence_index(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("index", arguments, {"value"});
  const Items& items = self.as<Sequence>().items;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (equal(items[i], reader.require(0))) return static_cast<std::int64_t>(i);
  fail("ValueError", self.is(Kind::kList) ? repr(reader.require(0)) + " is not in list"
                                          : "tuple.index(x): x not in tuple");
}

Item sequence_count(const Item& self, const Arguments& arguments) {
  const ArgumentReader reader("count", arguments, {"value"});
  const Items& items = self.as<Sequence>().items;
  return static_cast<std::int64_t>(std::count_if(items.begin(), items.end(), [&](const Item& item) {
    return equal(item, reader.require(0));
  }));
}

const Methods& sequence_methods() {
  static const Methods kMethods = {{"index", sequence_index}, {"count", sequence_count}};
  return kMethods;
}

bool changes_value(const Item& item, const std::string& name) {
  constexpr std::string_view kList[] = {"append", "clear", "pop",    "reverse",
                                        "insert", "sort",  "extend", "remove"};
  constexpr std::string_view kDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  if (item.is(Kind::kList))
    return std::find(std::begin(kList), std::end(kList), name) != std::end(kList);
  return item.is(Kind::kDict) &&
         std::find(std::begin(kDict), std::end(kDict), name) != std::end(kDict);
}

/// What a method gives of a text that is escaped for HTML is so too.
Item as_markup(const Item& item) {
  if (item.is_string()) return Item::markup(item.as_string());
  if (!item.is_list_or_tuple()) return item;
  Items parts;
  for (const Item& part : item.as<Sequence>().items) parts.push_back(as_markup(part));
  return item.is(Kind::kList) ? make_list(std::move(parts)) : make_tuple(std::move(parts));
}

/// A method of a text that is escaped for HTML, which escapes what comes into the text.
Item markup_method(const std::string& name, Method method, const Item& self,
                   const Arguments& arguments) {
  Arguments safe = arguments;
  const bool fills = name == "center" || name == "ljust" || name == "rjust";
  if ((fills || name == "replace") && safe.positional.size() > 1)
    safe.positional[1] = escaped(safe.positional[1]);
  if (name == "join" && !safe.positional.empty()) {
    Items parts;
    for (const Item& part : iterate(safe.positional[0])) parts.emplace_back(escaped(part));
    safe.positional[0] = make_list(std::move(parts));
  }
  return as_markup(method(self, safe));
}

std::optional<Item> bound(const Methods& methods, const Item& item, const std::string& name) {
  const auto found = methods.find(name);
  if (found == methods.end()) return std::nullopt;
  return make_function(name, [name, item, method = found->second](const Arguments& arguments) {
    return item.is_markup() ? markup_method(name, method, item, arguments)
                            : method(item, arguments);
  });
}

}  // namespace

std::optional<Item> find_method(const Item& item, const std::string& name) {
  if (changes_value(item, name))
    return make_undefined("access to attribute " + repr_string(name) + " of " +
                              repr_string(type_name(item)) + " object is unsafe.",
                          "SecurityError");
  switch (item.kind()) {
    case Kind::kString: return bound(string_methods(), item, name);
    case Kind::kDict: return bound(dict_methods(), item, name);
    case Kind::kList:
      if (name == "copy")
        return make_function(
            "copy", [item](const Arguments&) { return make_list(item.as<Sequence>().items); });
      return bound(sequence_methods(), item, name);
    case Kind::kTuple:
    case Kind::kRange: return bound(sequence_methods(), item, name);
    case Kind::kFloat:
      if (name == "is_integer")
        return make_function("is_integer", [item](const Arguments&) {
          return Item(std::floor(item.as_double()) == item.as_double());
        });
      return std::nullopt;
    default: return std::nullopt;
  }
}

}  // namespace espalier::text::chat
