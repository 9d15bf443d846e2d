#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::parquet {

// Codes of parquet.thrift.
inline constexpr std::int64_t kPlain = 0;
inline constexpr std::int64_t kPlainDictionary = 2;
inline constexpr std::int64_t kRle = 3;
inline constexpr std::int64_t kDeltaBinaryPacked = 5;
inline constexpr std::int64_t kDeltaLengthByteArray = 6;
inline constexpr std::int64_t kDeltaByteArray = 7;
inline constexpr std::int64_t kRleDictionary = 8;
inline constexpr std::int64_t kByteStreamSplit = 9;

/// Unpacks a page: codec 0 is none, 1 Snappy, 2 gzip, 6 Zstandard, 7 LZ4_RAW. `size`: of what comes
/// out. Throws Error(kBadInput).
std::string decompress(std::string_view bytes, std::int64_t codec, std::int64_t size);

/// Decodes `count` numbers of the hybrid of run lengths and packed bits, each `width` bits wide.
/// Throws Error(kBadInput) where there are fewer.
std::vector<std::uint32_t> decode_hybrid(std::string_view bytes, int width, std::int64_t count);

/// A number of 7 bits a byte at the front, taken off. Throws Error(kBadInput).
std::uint64_t take_varint(std::string_view& bytes);
/// Little-endian number at the front, taken off. Throws Error(kBadInput).
std::uint32_t take_u32(std::string_view& bytes);
std::uint64_t take_u64(std::string_view& bytes);
std::string_view take_bytes(std::string_view& bytes, std::uint64_t size);

}  // namespace espalier::parquet
