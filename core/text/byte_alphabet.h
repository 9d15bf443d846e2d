#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/aligned_text.h"

namespace espalier::text {

/// The printable character that stands for each byte in byte-level vocabularies (of GPT-2).
char32_t byte_to_char(unsigned char byte);

/// "Ġhello" for " hello".
std::string to_byte_level(std::string_view bytes);
/// The other way; nothing when a character is not of the alphabet.
std::optional<std::string> from_byte_level(std::string_view text);

/// The same as a transformation of a text.
std::vector<CharChange> byte_level_changes(std::string_view text);

}  // namespace espalier::text
