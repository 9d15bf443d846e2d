#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace espalier::text::chat {

/// Python's view of characters and strings. All texts are valid UTF-8; places count code points.
bool is_space(char32_t point);
bool is_printable(char32_t point);
bool is_alphabetic(char32_t point);
bool is_decimal(char32_t point);
bool is_upper(char32_t point);
bool is_lower(char32_t point);
/// \w of Python's re.
bool is_word(char32_t point);

std::string lower(std::string_view text);
std::string upper(std::string_view text);
std::string title(std::string_view text);
std::string capitalize(std::string_view text);
std::string swapcase(std::string_view text);

/// Strips the characters of `chars` off the ends that are asked for; white space when it is null.
std::string strip(std::string_view text, const std::string* chars, bool left, bool right);
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t most);
/// Without `separator`, splits at runs of white space. `most` < 0: no limit.
std::vector<std::string> split(std::string_view text, const std::string* separator,
                               std::int64_t most, bool from_right);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);

/// Code points [begin, end) of `text`.
std::string substring(std::string_view text, std::size_t begin, std::size_t end);
std::string repeated(std::string_view text, std::int64_t times);
/// `fill` on both sides up to `width` code points, as str.center does.
std::string centered(std::string_view text, std::int64_t width, std::string_view fill);

}  // namespace espalier::text::chat
