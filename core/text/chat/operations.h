#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/chat/item.h"

namespace espalier::text::chat {

/// `+ - * / // % **` of Python.
Item apply_operator(std::string_view name, const Item& left, const Item& right);
Item negate(const Item& item);
bool contains(const Item& container, const Item& item);
/// `== != < <= > >= in`, `not in`.
bool compare(std::string_view name, const Item& left, const Item& right);

/// `item.name`, with Jinja's order (attribute, then element) and its sandbox.
Item get_attribute(const Item& item, const std::string& name);
/// `item[key]`.
Item get_element(const Item& item, const Item& key);
Item get_slice(const Item& item, const Item& start, const Item& stop, const Item& step);
Item call(const Item& callee, const Arguments& arguments);

/// A method or property that the value has in Python; nothing for others. Methods that change the
/// value come back as undefined values that raise SecurityError.
std::optional<Item> find_method(const Item& item, const std::string& name);

/// Python's range(start, stop, step), of at most kLongestRange items.
Item make_range(std::int64_t start, std::int64_t stop, std::int64_t step);

/// Reads the arguments of a builtin by position or name. Raises TypeError for surplus ones.
class ArgumentReader {
 public:
  ArgumentReader(std::string function, const Arguments& arguments,
                 std::initializer_list<std::string_view> names);

  /// Null when it was not given.
  const Item* find(std::size_t place) const { return found_[place]; }
  const Item& require(std::size_t place) const;
  std::string text(std::size_t place) const;
  std::string text_or(std::size_t place, std::string fallback) const;
  std::int64_t integer(std::size_t place) const;
  std::int64_t integer_or(std::size_t place, std::int64_t fallback) const;
  bool truth_or(std::size_t place, bool fallback) const;

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<const Item*> found_;
};

/// `text` of the kind of `model`: escaped for HTML or plain.
Item text_like(const Item& model, std::string text);
/// `text % arguments`, of the kind of `text`.
Item percent_format(const Item& text, const Item& arguments);
/// text.format(...), of the kind of `text`.
Item brace_format(const Item& text, const Arguments& arguments);

struct JsonOptions {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  ///< of one level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// json.dumps of Python.
std::string to_json(const Item& item, const JsonOptions& options);

/// Python's integers have no end; those of a template have 64 bits.
[[noreturn]] void fail_overflow(std::uint32_t line = 0);
/// Parses int(text, base) of Python; nothing when it is no number.
std::optional<std::int64_t> parse_integer(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

using Builtin = Item (*)(const Item& value, const Arguments& arguments);
/// Null for an unknown name.
Builtin find_filter(std::string_view name);
Builtin find_test(std::string_view name);
/// Raise TemplateAssertionError for an unknown name.
Item apply_filter(const std::string& name, const Item& value, const Arguments& arguments);
bool apply_test(const std::string& name, const Item& value, const Arguments& arguments);
/// range, dict, namespace, raise_exception, ...; nothing for other names.
std::optional<Item> find_global(std::string_view name);

}  // namespace espalier::text::chat
