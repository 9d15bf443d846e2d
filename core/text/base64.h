#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace espalier::text {

/// Bytes of standard base64 with padding; nothing when `text` is none.
std::optional<std::string> decode_base64(std::string_view text);

std::string encode_base64(std::string_view bytes);

}  // namespace espalier::text
