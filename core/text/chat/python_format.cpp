// The % operator of strings and str.format().
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "espalier/base/utf8.h"
#include "text/chat/limits.h"
#include "text/chat/operations.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

/// [[fill]align][sign][#][0][width][,][.precision][type]
struct FormatSpec {
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  std::int64_t width = 0;
  char grouping = '\0';
  std::int64_t precision = -1;
  char type = '\0';
};

constexpr std::int64_t kWidest = 1'000'000;

[[noreturn]] void fail_size() {
  fail("ValueError", "a width or precision of the template is too large");
}

std::int64_t read_number(std::string_view text, std::size_t& at) {
  std::int64_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    value = std::min(value * 10 + (text[at] - '0'), kWidest + 1);
    ++at;
  }
  if (value > kWidest) fail_size();
  return value;
}

std::string padded(const std::string& text, const FormatSpec& spec, char fallback_align) {
  const std::int64_t missing = spec.width - static_cast<std::int64_t>(count_code_points(text));
  if (missing <= 0) return text;
  const char align = spec.align == '\0' ? fallback_align : spec.align;
  if (align == '<') return text + repeated(spec.fill, missing);
  if (align == '>') return repeated(spec.fill, missing) + text;
  if (align == '^')
    return repeated(spec.fill, missing / 2) + text + repeated(spec.fill, missing - missing / 2);
  const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ');
  return text.substr(0, sign) + repeated(spec.fill, missing) + text.substr(sign);
}

std::string sign_text(bool negative, char sign) {
  return negative ? "-" : sign == '-' ? "" : std::string(1, sign);
}

/// Separators between the groups of the whole part: of three digits, of four in other bases.
std::string grouped(const std::string& digits, const FormatSpec& spec) {
  if (spec.grouping == '\0') return digits;
  const bool decimal = std::string_view("xXob").find(spec.type) == std::string_view::npos;
  std::size_t whole = decimal ? digits.find_first_not_of("0123456789") : digits.size();
  if (whole == std::string::npos) whole = digits.size();
  std::string out;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % (decimal ? 3 : 4) == 0) out += spec.grouping;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

/// A number of the width of `spec`; zeros that fill it up are grouped as well. `prefix` is the sign
/// and the mark of the base.
std::string padded_number(const std::string& prefix, std::string digits, const FormatSpec& spec) {
  std::string text = grouped(digits, spec);
  if (spec.align != '=') return padded(prefix + text, spec, '>');
  const auto missing = [&] {
    return spec.width - static_cast<std::int64_t>(prefix.size() + text.size());
  };
  if (spec.grouping != '\0' && spec.fill == "0" && std::isxdigit(digits[0]) != 0) {
    // All zeros but a quarter of them at once, since separators take up the rest.
    digits.insert(0, repeated("0", missing() * 3 / 4));
    for (text = grouped(digits, spec); missing() > 0; text = grouped(digits, spec))
      digits.insert(0, "0");
  }
  return prefix + repeated(spec.fill, missing()) + text;
}

std::string integer_digits(std::uint64_t value, char type) {
  const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  char buffer[72];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, base).ptr;
  std::string digits(buffer, end);
  if (type == 'X')
    std::transform(digits.begin(), digits.end(), digits.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return digits;
}

std::string float_digits(double value, const FormatSpec& spec) {
  const double size = std::fabs(value);
  const bool upper_type = spec.type == 'F' || spec.type == 'E' || spec.type == 'G';
  if (std::isnan(size)) return upper_type ? "NAN" : "nan";
  if (std::isinf(size)) return upper_type ? "INF" : "inf";
  if (spec.type == '\0' && spec.precision < 0) return repr_float(size);
  const char type = spec.type == '\0' ? 'g' : spec.type == '%' ? 'f' : spec.type;
  const int precision =
      static_cast<int>(spec.precision < 0 ? 6 : std::min<std::int64_t>(spec.precision, 400));
  char pattern[8];
  std::snprintf(pattern, sizeof(pattern), "%%%s.*%c", spec.alternate ? "#" : "", type);
  char buffer[1024];
  std::snprintf(buffer, sizeof(buffer), pattern, precision, spec.type == '%' ? size * 100 : size);
  std::string out(buffer);
  if (spec.type == '\0' && out.find_first_of(".en") == std::string::npos) out += ".0";
  return spec.type == '%' ? out + "%" : out;
}

bool is_float_type(char type) {
  return std::string_view("eEfFgG%").find(type) != std::string_view::npos;
}

std::string format_number(const Item& item, const FormatSpec& spec) {
  const bool as_float = item.is(Kind::kFloat) || is_float_type(spec.type);
  if (as_float && spec.type != '\0' &&
      std::string_view("eEfFgG%n").find(spec.type) == std::string_view::npos)
    fail("ValueError",
         std::string("Unknown format code '") + spec.type + "' for object of type 'float'");
  std::string digits;
  std::string mark;
  bool negative = false;
  if (as_float && !(spec.type == '\0' && item.is_integral())) {
    negative = std::signbit(item.as_double());
    digits = float_digits(item.as_double(), spec);
  } else {
    const std::int64_t value = item.as_int();
    negative = value < 0;
    digits = integer_digits(
        negative ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value),
        spec.type);
    if (spec.alternate && std::string_view("xXob").find(spec.type) != std::string_view::npos)
      mark = std::string("0") + spec.type;
    const auto known = static_cast<std::int64_t>(digits.size());
    digits.insert(0, repeated("0", spec.precision - known));
  }
  return padded_number(sign_text(negative, spec.sign) + mark, digits, spec);
}

std::string format_text(std::string text, const FormatSpec& spec) {
  if (spec.precision >= 0) text = substring(text, 0, static_cast<std::size_t>(spec.precision));
  return padded(text, spec, '<');
}

FormatSpec read_spec(std::string_view text) {
  FormatSpec spec;
  std::size_t at = 0;
  const auto is_align = [&](std::size_t place) {
    return place < text.size() &&
           std::string_view("<>=^").find(text[place]) != std::string_view::npos;
  };
  const std::size_t first = text.empty() ? 0 : utf8_length(text[0]);
  const bool has_fill = first > 0 && is_align(first);
  if (has_fill) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  if (at < text.size() && std::string_view("+- ").find(text[at]) != std::string_view::npos)
    spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.alternate = true, ++at;
  if (at < text.size() && text[at] == '0') {
    if (!has_fill) spec.fill = "0";
    if (spec.align == '\0') spec.align = '=';
    ++at;
  }
  spec.width = read_number(text, at);
  if (at < text.size() && (text[at] == ',' || text[at] == '_')) spec.grouping = text[at++];
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (at == text.size() || text[at] < '0' || text[at] > '9')
      fail("ValueError", "Format specifier missing precision");
    spec.precision = read_number(text, at);
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) fail("ValueError", "Invalid format specifier");
  return spec;
}

std::string format_item(const Item& item, std::string_view spec_text) {
  if (spec_text.empty()) return to_str(item);
  FormatSpec spec = read_spec(spec_text);
  if (item.is(Kind::kBool) && spec.type == '\0')
    return format_number(static_cast<std::int64_t>(item.as_int()), spec);
  if (item.is_integral() && spec.precision >= 0 && !is_float_type(spec.type))
    fail("ValueError", "Precision not allowed in integer format specifier");
  if (item.is_number() && spec.type != 's') return format_number(item, spec);
  if (!item.is_string())
    fail("TypeError", "unsupported format string passed to " + type_name(item) + ".__format__");
  if (spec.type != '\0' && spec.type != 's')
    fail("ValueError",
         std::string("Unknown format code '") + spec.type + "' for object of type 'str'");
  if (spec.align == '=') spec.align = '<';
  return format_text(item.as_string(), spec);
}

/// The value of a replacement field such as "name.attribute[0]".
Item read_field(std::string_view field, const Arguments& arguments, std::size_t& automatic) {
  std::size_t at = std::min(field.find('.'), field.find('['));
  const std::string first(field.substr(0, at));
  Item item;
  const bool number = !first.empty() && std::all_of(first.begin(), first.end(),
                                                    [](char c) { return c >= '0' && c <= '9'; });
  if (first.empty() || number) {
    const std::size_t place =
        first.empty() ? automatic++
                      : std::min<std::size_t>(std::strtoul(first.c_str(), nullptr, 10), 1U << 30U);
    if (place >= arguments.positional.size())
      fail("IndexError", "Replacement index " + std::to_string(place) +
                             " out of range for positional args tuple");
    item = arguments.positional[place];
  } else {
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& entry) { return entry.first == first; });
    if (found == arguments.named.end()) fail("KeyError", repr_string(first));
    item = found->second;
  }
  while (at < field.size()) {
    if (field[at] == '.') {
      const std::size_t end = std::min(field.find_first_of(".[", at + 1), field.size());
      item = get_attribute(item, std::string(field.substr(at + 1, end - at - 1)));
      at = end;
    } else {
      const std::size_t close = field.find(']', at);
      if (close == std::string_view::npos) fail("ValueError", "Missing ']' in format string");
      const std::string key(field.substr(at + 1, close - at - 1));
      const auto index = parse_integer(key, 10);
      item = get_element(item, index ? Item(*index) : Item(key));
      at = close + 1;
    }
  }
  return item;
}

/// Python's ascii(): repr() with escapes for all that isn't ASCII.
std::string ascii_repr(const Item& item) {
  std::string out;
  const std::string text = repr(item);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t point = next_code_point(text, at);
    if (point < 0x80) {
      out += text.substr(begin, at - begin);
    } else {
      append_escaped(out, point);
    }
  }
  return out;
}

/// One conversion of the % operator.
class PercentFormatter {
 public:
  PercentFormatter(const Item& text, const Item& arguments)
      : text_(text.as_string()), escapes_(text.is_markup()), arguments_(arguments) {
    if (arguments.is(Kind::kTuple)) {
      queue_ = arguments.as<Sequence>().items;
    } else {
      queue_.push_back(arguments);
    }
  }

  std::string run() {
    std::string out;
    while (at_ < text_.size()) {
      const std::size_t percent = std::min(text_.find('%', at_), text_.size());
      out += text_.substr(at_, percent - at_);
      at_ = percent;
      if (at_ < text_.size()) out += convert();
      if (out.size() > kMostOutputBytes) Meter::charge_bytes(out.size());
    }
    // Python lets values with elements of their own be left over.
    if (used_ < queue_.size() && !named_ && !arguments_.is(Kind::kDict) &&
        !arguments_.is(Kind::kList) && !arguments_.is_undefined())
      fail("TypeError", "not all arguments converted during string formatting");
    return out;
  }

 private:
  const Item& next_argument() {
    if (used_ >= queue_.size()) fail("TypeError", "not enough arguments for format string");
    return queue_[used_++];
  }

  std::string convert() {
    ++at_;
    std::optional<Item> named;
    if (at_ < text_.size() && text_[at_] == '(') {
      const std::size_t close = text_.find(')', at_);
      if (close == std::string_view::npos) fail("ValueError", "incomplete format key");
      const std::string key(text_.substr(at_ + 1, close - at_ - 1));
      if (!arguments_.is(Kind::kDict)) fail("TypeError", "format requires a mapping");
      const Item* found = arguments_.as<Dict>().find(std::string_view(key));
      if (found == nullptr) fail("KeyError", repr_string(key));
      named = *found;
      named_ = true;
      at_ = close + 1;
    }
    FormatSpec spec;
    spec.align = '>';
    bool zero = false;
    for (;
         at_ < text_.size() && std::string_view("-+ #0").find(text_[at_]) != std::string_view::npos;
         ++at_) {
      const char c = text_[at_];
      if (c == '-') spec.align = '<';
      if (c == '+' || (c == ' ' && spec.sign != '+')) spec.sign = c;
      if (c == '#') spec.alternate = true;
      zero |= c == '0';
    }
    spec.width = read_size();
    if (spec.width < 0) spec.align = '<', spec.width = -spec.width;
    if (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      spec.precision = std::max<std::int64_t>(read_size(), 0);
    }
    if (at_ < text_.size() && std::string_view("hlL").find(text_[at_]) != std::string_view::npos)
      ++at_;
    if (at_ >= text_.size()) fail("ValueError", "incomplete format");
    spec.type = text_[at_++];
    if (spec.type == '%') return "%";
    return converted(named ? *named : next_argument(), spec, zero);
  }

  std::int64_t read_size() {
    if (at_ >= text_.size() || text_[at_] != '*') return read_number(text_, at_);
    ++at_;
    const Item& item = next_argument();
    if (!item.is_integral()) fail("TypeError", "* wants int");
    if (item.as_int() > kWidest || item.as_int() < -kWidest) fail_size();
    return item.as_int();
  }

  std::string converted(const Item& item, FormatSpec spec, bool zero) const {
    switch (spec.type) {
      case 's': return format_text(escapes_ ? escaped(item) : to_str(item), spec);
      case 'r':
      case 'a': {
        const std::string text = spec.type == 'r' ? repr(item) : ascii_repr(item);
        return format_text(escapes_ ? escaped(text) : text, spec);
      }
      case 'c':
        return format_text(
            item.is_integral()
                ? to_utf8(std::u32string(1, static_cast<char32_t>(std::clamp<std::int64_t>(
                                                item.as_int(), 0, 0x10FFFF))))
                : to_str(item),
            spec);
      default: break;
    }
    const bool integer = std::string_view("diuxXo").find(spec.type) != std::string_view::npos;
    if (!integer && std::string_view("eEfFgG").find(spec.type) == std::string_view::npos)
      fail("ValueError", std::string("unsupported format character '") + spec.type + "'");
    if (item.is_undefined()) fail_undefined(item);
    if (!item.is_number())
      fail("TypeError", integer ? std::string("%") + spec.type +
                                      " format: a real number is required, not " + type_name(item)
                                : "must be real number, not " + type_name(item));
    if (zero && spec.align == '>') spec.align = '=', spec.fill = "0";
    if (!integer) return format_number(item, spec);
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    const double size = item.as_double();
    if (item.is(Kind::kFloat) && !(std::fabs(size) < 9e18))
      fail("OverflowError", "cannot convert float to integer");
    return format_number(item.is(Kind::kFloat) ? Item(static_cast<std::int64_t>(size)) : item,
                         spec);
  }

  std::string_view text_;
  bool escapes_;  ///< what comes into the text
  const Item& arguments_;
  Items queue_;
  std::size_t used_ = 0;
  std::size_t at_ = 0;
  bool named_ = false;
};

}  // namespace

Item percent_format(const Item& text, const Item& arguments) {
  return text_like(text, PercentFormatter(text, arguments).run());
}

Item brace_format(const Item& format, const Arguments& arguments) {
  const std::string& text = format.as_string();
  std::string out;
  std::size_t automatic = 0;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if ((c == '{' || c == '}') && at + 1 < text.size() && text[at + 1] == c) {
      out += c;
      at += 2;
      continue;
    }
    if (c == '}') fail("ValueError", "Single '}' encountered in format string");
    if (c != '{') {
      out += c;
      ++at;
      continue;
    }
    const std::size_t close = text.find('}', at);
    if (close == std::string::npos) fail("ValueError", "expected '}' before end of string");
    std::string field = text.substr(at + 1, close - at - 1);
    std::string spec;
    if (const std::size_t colon = field.find(':'); colon != std::string::npos) {
      spec = field.substr(colon + 1);
      field.resize(colon);
    }
    char conversion = '\0';
    if (field.size() >= 2 && field[field.size() - 2] == '!') {
      conversion = field.back();
      field.resize(field.size() - 2);
    }
    Item item = read_field(field, arguments, automatic);
    if (conversion == 'r') item = repr(item);
    if (conversion == 'a') item = ascii_repr(item);
    if (conversion == 's') item = to_str(item);
    const std::string shown = format_item(item, spec);
    out += format.is_markup() && !(item.is_markup() && spec.empty()) ? escaped(shown) : shown;
    if (out.size() > kMostOutputBytes) Meter::charge_bytes(out.size());
    at = close + 1;
  }
  return text_like(format, std::move(out));
}

}  // namespace espalier::text::chat
