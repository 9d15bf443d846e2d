#pragma once

#include <cstddef>
#include <string_view>

namespace espalier::text {

/// Length in bytes of the extended grapheme cluster (UAX #29) at the start of `text`, which is
/// valid UTF-8 and not empty. Hangul syllables and pairs of regional indicators are not put
/// together: the callers treat clusters of six bytes and more by characters.
std::size_t grapheme_length(std::string_view text);

}  // namespace espalier::text
