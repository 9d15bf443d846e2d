#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "espalier/base/api.h"

namespace espalier {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

/// Number of bytes of the character that starts with `lead`; only for valid UTF-8.
inline std::size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

inline bool is_utf8_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

/// Decodes the character at `at` and moves `at` behind it; only for valid UTF-8.
inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    ++at;
    return lead;
  }
  char32_t point = 0;
  if (lead < 0xE0) {
    point = (lead & 0x1FU) << 6U | (byte(1) & 0x3FU);
    at += 2;
  } else if (lead < 0xF0) {
    point = (lead & 0x0FU) << 12U | (byte(1) & 0x3FU) << 6U | (byte(2) & 0x3FU);
    at += 3;
  } else {
    point = (lead & 0x07U) << 18U | (byte(1) & 0x3FU) << 12U | (byte(2) & 0x3FU) << 6U |
            (byte(3) & 0x3FU);
    at += 4;
  }
  return point;
}

/// Start of the character that ends right before `end`; only for valid UTF-8 and end > 0.
inline std::size_t previous_boundary(std::string_view text, std::size_t end) {
  do --end;
  while (end > 0 && is_utf8_continuation(text[end]));
  return end;
}

ESPALIER_API void append_utf8(std::string& text, char32_t point);
ESPALIER_API std::string to_utf8(std::u32string_view points);
/// Only for valid UTF-8.
ESPALIER_API std::u32string to_code_points(std::string_view text);
ESPALIER_API std::size_t count_code_points(std::string_view text);

ESPALIER_API bool is_valid_utf8(std::string_view text);
/// Each maximal part of an ill-formed sequence becomes one U+FFFD (the practice that the Unicode
/// standard recommends, and what Rust and Python do).
ESPALIER_API std::string replace_invalid_utf8(std::string_view text);

}  // namespace espalier
