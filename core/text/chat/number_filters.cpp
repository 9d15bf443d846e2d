#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "text/chat/filters.h"
#include "text/chat/python_text.h"

namespace espalier::text::chat {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// `text` without the underscores that group its digits; nothing when one has no digit on both
/// sides. Letters are digits of the larger bases.
std::optional<std::string> without_groups(std::string_view text, bool letters_count) {
  const auto is_part = [&](char c) {
    return letters_count ? std::isalnum(static_cast<unsigned char>(c)) != 0 : is_digit(c);
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_part(text[i - 1]) || !is_part(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  std::string digits = strip(text, nullptr, true, true);
  std::string sign;
  if (digits.starts_with('-') || digits.starts_with('+')) {
    if (digits[0] == '-') sign = "-";
    digits.erase(0, 1);
  }
  const char mark =
      digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : '\0';
  const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    digits.erase(0, digits[2] == '_' ? 3 : 2);
    base = marked;
  }
  const auto plain = without_groups(digits, true);
  if (!plain || plain->empty() || plain->front() == '-') return std::nullopt;
  if (base == 0) {
    if (plain->front() == '0' && plain->find_first_not_of('0') != std::string::npos)
      return std::nullopt;
    base = 10;
  }
  const std::string number = sign + *plain;
  std::int64_t value = 0;
  const char* end = number.data() + number.size();
  const auto [stop, error] = std::from_chars(number.data(), end, value, base);
  if (stop != end) return std::nullopt;
  if (error == std::errc::result_out_of_range) fail_overflow();
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits = lower(strip(text, nullptr, true, true));
  const std::size_t sign = digits.starts_with('+') || digits.starts_with('-') ? 1 : 0;
  const bool is_number = digits.size() > sign && (is_digit(digits[sign]) || digits[sign] == '.');
  const std::string_view word = std::string_view(digits).substr(sign);
  if (word == "inf" || word == "infinity") return digits[0] == '-' ? -HUGE_VAL : HUGE_VAL;
  if (word == "nan") return std::nan("");
  const auto plain = is_number ? without_groups(digits, false) : std::nullopt;
  if (!plain) return std::nullopt;
  double value = 0;
  const char* begin = plain->data() + (digits[0] == '+' ? 1 : 0);
  const char* end = plain->data() + plain->size();
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (stop != end) return std::nullopt;
  // Infinite, or next to zero.
  return error == std::errc::result_out_of_range ? std::strtod(begin, nullptr) : value;
}

namespace {

Item abs_filter(const Item& value, const Arguments&) {
  if (!value.is_number())
    fail("TypeError", "bad operand type for abs(): '" + type_name(value) + "'");
  if (value.is(Kind::kFloat)) return std::fabs(value.as_double());
  return value.as_int() < 0 ? negate(value) : Item(value.as_int());
}

Item whole_number(double number) {
  if (std::fabs(number) >= 9.2e18) fail_overflow();
  return static_cast<std::int64_t>(number);
}

Item int_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("int", arguments, {"default", "base"});
  Item fallback = reader.find(0) == nullptr ? Item(0) : *reader.find(0);
  if (value.is_undefined()) fail_undefined(value);
  if (value.is_integral()) return value.as_int();
  if (value.is(Kind::kFloat)) {
    if (std::isinf(value.as_double()))
      fail("OverflowError", "cannot convert float infinity to integer");
    return std::isnan(value.as_double()) ? fallback : whole_number(value.as_double());
  }
  if (!value.is_string()) return fallback;
  // What can't be a base leaves the second reading, as a float, to try.
  const Item base = reader.find(1) == nullptr ? Item(10) : *reader.find(1);
  const bool is_base = base.is_integral() && base.as_int() >= 0 && base.as_int() <= 36;
  const auto parsed =
      is_base ? parse_integer(value.as_string(), static_cast<int>(base.as_int())) : std::nullopt;
  if (parsed) return *parsed;
  const auto number = parse_float(value.as_string());
  return number && std::isfinite(*number) ? whole_number(*number) : fallback;
}

Item float_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("float", arguments, {"default"});
  if (value.is_undefined()) fail_undefined(value);
  if (value.is_number()) return value.as_double();
  const auto parsed = value.is_string() ? parse_float(value.as_string()) : std::nullopt;
  if (parsed) return *parsed;
  return reader.find(0) == nullptr ? Item(0.0) : *reader.find(0);
}

/// Python's round(): to the nearest decimal, exact ties to even.
double rounded(double value, std::int64_t precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision < -308) return std::copysign(0.0, value);
  if (precision >= 0) {
    char buffer[800];
    std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), value);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(value / scale) * scale;
}

/// Python's round() of an integer to tens, hundreds, ...
std::int64_t rounded_integer(std::int64_t value, std::int64_t precision) {
  if (precision < -19) return 0;
  // Of 128 bits, since 10^19 has no place in 64.
  __extension__ using Wide = __int128;
  Wide unit = 1;
  for (std::int64_t i = precision; i < 0; ++i) unit *= 10;
  Wide below = value / unit * unit;
  if (below > value) below -= unit;
  const Wide twice = 2 * (value - below);
  const bool goes_up = twice > unit || (twice == unit && below / unit % 2 != 0);
  const Wide out = goes_up ? below + unit : below;
  if (out > INT64_MAX || out < INT64_MIN) fail_overflow();
  return static_cast<std::int64_t>(out);
}

Item round_filter(const Item& value, const Arguments& arguments) {
  const ArgumentReader reader("round", arguments, {"precision", "method"});
  const std::string method = reader.text_or(1, "common");
  if (method != "common" && method != "ceil" && method != "floor")
    fail("FilterArgumentError", "method must be common, ceil or floor");
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_number())
    fail("TypeError", "type " + type_name(value) + " doesn't define __round__ method");
  const Item precision = reader.find(0) == nullptr ? Item(0) : *reader.find(0);
  if (method == "common") {
    if (value.is_integral())
      return precision.is_none() || reader.integer_or(0, 0) >= 0
                 ? value.as_int()
                 : rounded_integer(value.as_int(), precision.as_int());
    return precision.is_none() ? int_filter(rounded(value.as_double(), 0), {})
                               : Item(rounded(value.as_double(), reader.integer_or(0, 0)));
  }
  const Item scale = apply_operator("**", 10, precision);
  const double scaled = apply_operator("*", value, scale).as_double();
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  if (!std::isfinite(whole)) fail("OverflowError", "cannot convert float infinity to integer");
  return apply_operator("/", whole, scale);
}

constexpr NamedFilter kFilters[] = {
    {"abs", abs_filter},
    {"int", int_filter},
    {"float", float_filter},
    {"round", round_filter},
};

}  // namespace

std::span<const NamedFilter> number_filters() { return kFilters; }

}  // namespace espalier::text::chat
