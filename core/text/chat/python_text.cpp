#include "text/chat/python_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "espalier/base/utf8.h"
#include "text/chat/limits.h"
#include "text/unicode/properties.h"

namespace espalier::text::chat {
namespace {

struct SpecialUpper {
  char32_t point;
  const char32_t* upper;
};

/// Characters whose upper case has more than one code point (SpecialCasing of Unicode), the common
/// ones.
constexpr SpecialUpper kSpecialUpper[] = {
    {0xDF, U"SS"},    {0x149, U"ʼN"},  {0x1F0, U"J̌"},   {0x390, U"Ϊ́"},   {0x3B0, U"Ϋ́"},
    {0x587, U"ԵՒ"},   {0x1E96, U"H̱"},  {0x1E97, U"T̈"},  {0x1E98, U"W̊"},  {0x1E99, U"Y̊"},
    {0x1E9A, U"Aʾ"},  {0xFB00, U"FF"}, {0xFB01, U"FI"}, {0xFB02, U"FL"}, {0xFB03, U"FFI"},
    {0xFB04, U"FFL"}, {0xFB05, U"ST"}, {0xFB06, U"ST"},
};

utf8proc_category_t category(char32_t point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(point));
}

char32_t simple_upper(char32_t point) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(point)));
}

void append_upper(std::string& out, char32_t point, bool as_title) {
  for (const auto& [special, mapped] : kSpecialUpper) {
    if (special != point) continue;
    std::u32string text(mapped);
    for (std::size_t i = 1; as_title && i < text.size(); ++i) text[i] = lowercase(text[i])[0];
    out += to_utf8(text);
    return;
  }
  append_utf8(
      out, as_title ? static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(point)))
                    : simple_upper(point));
}

bool is_cased(char32_t point) {
  return is_upper(point) || is_lower(point) || category(point) == UTF8PROC_CATEGORY_LT;
}

/// Unicode's property Case_Ignorable: marks, modifiers, formats and punctuation inside of words.
bool is_case_ignorable(char32_t point) {
  switch (category(point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default:
      return std::u32string_view(
                 U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027"
                 U"\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A")
                 .find(point) != std::u32string_view::npos;
  }
}

/// A sigma that ends a word is written in its final form.
bool is_final_sigma(const std::u32string& points, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && is_case_ignorable(points[before - 1])) --before;
  if (before == 0 || !is_cased(points[before - 1])) return false;
  std::size_t behind = at + 1;
  while (behind < points.size() && is_case_ignorable(points[behind])) ++behind;
  return behind == points.size() || !is_cased(points[behind]);
}

void append_lower(std::string& out, const std::u32string& points, std::size_t at) {
  if (points[at] == 0x3A3) {
    append_utf8(out, is_final_sigma(points, at) ? 0x3C2 : 0x3C3);
    return;
  }
  for (const char32_t part : lowercase(points[at]))
    if (part != 0 || points[at] == 0) {
      append_utf8(out, part);
      if (points[at] == 0) break;
    }
}

bool is_line_end(char32_t point) {
  return (point >= 0xA && point <= 0xD) || (point >= 0x1C && point <= 0x1E) || point == 0x85 ||
         point == 0x2028 || point == 0x2029;
}

std::vector<std::string> split_spaces(std::u32string_view points, std::int64_t most,
                                      bool from_right) {
  std::vector<std::string> parts;
  std::u32string text(points);
  if (from_right) std::reverse(text.begin(), text.end());
  std::size_t at = 0;
  while (true) {
    while (at < text.size() && is_space(text[at])) ++at;
    if (at == text.size()) break;
    std::size_t end = at;
    const bool rest = most >= 0 && static_cast<std::int64_t>(parts.size()) >= most;
    while (end < text.size() && (rest || !is_space(text[end]))) ++end;
    std::u32string part = text.substr(at, end - at);
    if (from_right) std::reverse(part.begin(), part.end());
    parts.push_back(to_utf8(part));
    at = end;
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

bool is_space(char32_t point) {
  return (point >= 0x1C && point <= 0x1F) || (CharClassTable::get()[point] & kSpace) != 0;
}

bool is_printable(char32_t point) {
  if (point == ' ') return true;
  switch (category(point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

bool is_alphabetic(char32_t point) { return (CharClassTable::get()[point] & kLetter) != 0; }
bool is_decimal(char32_t point) { return category(point) == UTF8PROC_CATEGORY_ND; }
bool is_upper(char32_t point) { return category(point) == UTF8PROC_CATEGORY_LU; }
bool is_lower(char32_t point) { return category(point) == UTF8PROC_CATEGORY_LL; }
bool is_word(char32_t point) {
  return point == '_' || (CharClassTable::get()[point] & (kLetter | kNumber)) != 0;
}

std::string lower(std::string_view text) {
  const std::u32string points = to_code_points(text);
  std::string out;
  for (std::size_t i = 0; i < points.size(); ++i) append_lower(out, points, i);
  return out;
}

std::string upper(std::string_view text) {
  std::string out;
  for (const char32_t point : to_code_points(text)) append_upper(out, point, false);
  return out;
}

std::string title(std::string_view text) {
  const std::u32string points = to_code_points(text);
  std::string out;
  bool inside = false;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (inside) {
      append_lower(out, points, i);
    } else {
      append_upper(out, points[i], true);
    }
    inside = is_cased(points[i]);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  const std::u32string points = to_code_points(text);
  std::string out;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      append_upper(out, points[0], true);
    } else {
      append_lower(out, points, i);
    }
  }
  return out;
}

std::string swapcase(std::string_view text) {
  const std::u32string points = to_code_points(text);
  std::string out;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (is_upper(points[i])) {
      append_lower(out, points, i);
    } else {
      append_upper(out, points[i], false);
    }
  }
  return out;
}

std::string strip(std::string_view text, const std::string* chars, bool left, bool right) {
  const std::u32string set = chars == nullptr ? std::u32string() : to_code_points(*chars);
  const auto drops = [&](std::size_t place) {
    std::size_t at = place;
    const char32_t point = next_code_point(text, at);
    return chars == nullptr ? is_space(point) : set.find(point) != std::u32string::npos;
  };
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (left && begin < end && drops(begin)) begin += utf8_length(text[begin]);
  while (right && end > begin && drops(previous_boundary(text, end)))
    end = previous_boundary(text, end);
  return std::string(text.substr(begin, end - begin));
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t most) {
  std::string out;
  std::size_t at = 0;
  const auto allowed = [&] { return most < 0 || most-- > 0; };
  if (from.empty()) {  // between all characters
    while (allowed()) {
      out += to;
      if (at == text.size()) return out;
      const std::size_t size = utf8_length(text[at]);
      out += text.substr(at, size);
      at += size;
      Meter::charge_bytes(out.size() / 64);
    }
    return out += text.substr(at);
  }
  for (std::size_t found = text.find(from); found != std::string_view::npos && allowed();
       found = text.find(from, at)) {
    out += text.substr(at, found - at);
    out += to;
    at = found + from.size();
    Meter::charge();
    if (out.size() > kMostOutputBytes) Meter::charge_bytes(out.size());
  }
  return out += text.substr(at);
}

std::vector<std::string> split(std::string_view text, const std::string* separator,
                               std::int64_t most, bool from_right) {
  if (separator == nullptr) return split_spaces(to_code_points(text), most, from_right);
  std::vector<std::string> parts;
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    Meter::charge();
    if (from_right) {
      const std::size_t found = end < separator->size()
                                    ? std::string_view::npos
                                    : text.rfind(*separator, end - separator->size());
      if (found == std::string_view::npos) break;
      parts.emplace_back(text.substr(found + separator->size(), end - found - separator->size()));
      end = found;
    } else {
      const std::size_t found = text.find(*separator, begin);
      if (found == std::string_view::npos) break;
      parts.emplace_back(text.substr(begin, found - begin));
      begin = found + separator->size();
    }
  }
  parts.emplace_back(text.substr(begin, end - begin));
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t place = at;
    const char32_t point = next_code_point(text, at);
    if (!is_line_end(point)) continue;
    if (point == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.emplace_back(text.substr(begin, (keep_ends ? at : place) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string substring(std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t at = 0;
  std::size_t place = 0;
  while (place < begin && at < text.size()) at += utf8_length(text[at]), ++place;
  const std::size_t first = at;
  while (place < end && at < text.size()) at += utf8_length(text[at]), ++place;
  return std::string(text.substr(first, at - first));
}

std::string repeated(std::string_view text, std::int64_t times) {
  std::string out;
  if (times <= 0 || text.empty()) return out;
  if (static_cast<std::uint64_t>(times) > kMostOutputBytes / text.size())
    Meter::charge_bytes(kMostOutputBytes + 1);
  Meter::charge_bytes(text.size() * static_cast<std::size_t>(times));
  for (std::int64_t i = 0; i < times; ++i) out += text;
  return out;
}

std::string centered(std::string_view text, std::int64_t width, std::string_view fill) {
  const auto size = static_cast<std::int64_t>(count_code_points(text));
  if (width <= size) return std::string(text);
  const std::int64_t margin = width - size;
  const std::int64_t left = margin / 2 + (margin & width & 1);
  return repeated(fill, left) + std::string(text) + repeated(fill, margin - left);
}

}  // namespace espalier::text::chat
