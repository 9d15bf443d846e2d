#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::parquet {

/// DELTA_BINARY_PACKED: differences in blocks, of as many bits as each needs. Takes what it reads
/// from the front of `bytes`; exactly `count` numbers, which wrap around as 64 bits do. Throws
/// Error(kBadInput). Source of all of these: Encodings.md of the format.
std::vector<std::int64_t> decode_delta_numbers(std::string_view& bytes, std::int64_t count);

/// DELTA_LENGTH_BYTE_ARRAY: all lengths, then all texts.
std::vector<std::string> decode_delta_lengths(std::string_view bytes, std::int64_t count);

/// DELTA_BYTE_ARRAY: how much of the text before each begins with, then the rest of each.
std::vector<std::string> decode_delta_texts(std::string_view bytes, std::int64_t count);

/// BYTE_STREAM_SPLIT: the first bytes of all values of `width` bytes, then the second ones, ...
/// Returns the values one after the other.
std::string join_byte_streams(std::string_view bytes, std::size_t width, std::int64_t count);

}  // namespace espalier::parquet
