#include "encoding.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "thrift.h"

namespace espalier::parquet {
namespace {

/// Pages are some megabytes; one that claims more than this is broken.
constexpr std::int64_t kMostPageBytes = std::int64_t{1} << 28;

/// Snappy's raw format (google/snappy, format_description.txt).
std::string unpack_snappy(std::string_view bytes, std::size_t size) {
  if (take_varint(bytes) != size) refuse("a page is broken");
  std::string out;
  out.reserve(size);
  while (!bytes.empty()) {
    const auto tag = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    const auto number = [&](std::size_t width) {
      std::uint32_t value = 0;
      const std::string_view part = take_bytes(bytes, width);
      std::memcpy(&value, part.data(), width);
      return value;
    };
    std::size_t length = tag >> 2U;
    if ((tag & 3U) == 0) {  // a literal
      if (length >= 60) length = number(length - 59);
      out += take_bytes(bytes, length + 1);
      continue;
    }
    std::size_t offset = 0;
    if ((tag & 3U) == 1) {
      length = 4 + (tag >> 2U & 7U);
      offset = static_cast<std::size_t>(tag >> 5U) << 8U | number(1);
    } else {
      length += 1;
      offset = number((tag & 3U) == 2 ? 2 : 4);
    }
    if (offset == 0 || offset > out.size() || out.size() + length > size)
      refuse("a page is broken");
    // Byte by byte: the copy may reach into what it writes.
    for (std::size_t i = 0; i < length; ++i) out += out[out.size() - offset];
  }
  if (out.size() != size) refuse("a page is broken");
  return out;
}

/// LZ4's block format (lz4_Block_format.md), without the frame.
std::string unpack_lz4(std::string_view bytes, std::size_t size) {
  std::string out;
  out.reserve(size);
  const auto length = [&](std::size_t nibble) {
    std::size_t value = nibble;
    for (std::uint8_t more = nibble == 15 ? 255 : 0; more == 255;) {
      more = static_cast<std::uint8_t>(take_bytes(bytes, 1)[0]);
      value += more;
    }
    return value;
  };
  while (!bytes.empty()) {
    const auto token = static_cast<std::uint8_t>(take_bytes(bytes, 1)[0]);
    out += take_bytes(bytes, length(token >> 4U));
    if (bytes.empty()) break;  // the last sequence is a literal alone
    const std::string_view part = take_bytes(bytes, 2);
    const std::size_t offset = static_cast<std::uint8_t>(part[0]) |
                               static_cast<std::size_t>(static_cast<std::uint8_t>(part[1])) << 8U;
    const std::size_t match = length(token & 15U) + 4;
    if (offset == 0 || offset > out.size() || match > size || out.size() > size - match)
      refuse("a page is broken");
    for (std::size_t i = 0; i < match; ++i) out += out[out.size() - offset];
  }
  if (out.size() != size) refuse("a page is broken");
  return out;
}

std::string unpack_gzip(std::string_view bytes, std::size_t size) {
  std::string out(size, '\0');
  z_stream stream = {};
  if (::inflateInit2(&stream, 15 + 32) != Z_OK) refuse("there is no memory to unpack it");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(size);
  const int status = ::inflate(&stream, Z_FINISH);
  const bool whole = status == Z_STREAM_END && stream.total_out == size;
  ::inflateEnd(&stream);
  if (!whole) refuse("a page is broken");
  return out;
}

std::string unpack_zstandard(std::string_view bytes, std::size_t size) {
  std::string out(size, '\0');
  const std::size_t count = ::ZSTD_decompress(out.data(), size, bytes.data(), bytes.size());
  if (::ZSTD_isError(count) != 0 || count != size) refuse("a page is broken");
  return out;
}

}  // namespace

std::string decompress(std::string_view bytes, std::int64_t codec, std::int64_t size) {
  if (size < 0 || size > kMostPageBytes) refuse("a page is broken");
  const auto room = static_cast<std::size_t>(size);
  switch (codec) {
    case 0: return std::string(bytes);
    case 1: return unpack_snappy(bytes, room);
    case 2: return unpack_gzip(bytes, room);
    case 6: return unpack_zstandard(bytes, room);
    case 7: return unpack_lz4(bytes, room);
    default: break;
  }
  refuse("it is compressed in a way that is not known here", "codec " + std::to_string(codec),
         "none, Snappy, gzip, Zstandard or LZ4_RAW (codec 7); pyarrow rewrites it: "
         "pq.write_table(pq.read_table(\"in\"), \"out\", compression=\"zstd\")");
}

std::vector<std::uint32_t> decode_hybrid(std::string_view bytes, int width, std::int64_t count) {
  if (width < 0 || width > 32) refuse("a page is broken");
  std::vector<std::uint32_t> numbers;
  const auto wanted = static_cast<std::size_t>(count);
  while (numbers.size() < wanted) {
    const std::uint64_t head = take_varint(bytes);
    if ((head & 1U) == 0) {  // one number, many times
      std::uint32_t value = 0;
      const std::string_view part = take_bytes(bytes, static_cast<std::size_t>(width + 7) / 8);
      std::memcpy(&value, part.data(), part.size());
      const std::uint64_t run = std::min<std::uint64_t>(head >> 1U, wanted - numbers.size());
      if (run == 0) refuse("a page is broken");
      numbers.insert(numbers.end(), run, value);
      continue;
    }
    // Groups of eight, bits from the lowest up. The last group may be cut in the file.
    const std::uint64_t groups = head >> 1U;
    const std::uint64_t size =
        std::min<std::uint64_t>(groups * static_cast<std::uint64_t>(width), bytes.size());
    if (groups == 0 || groups > wanted) refuse("a page is broken");
    const std::string_view packed = take_bytes(bytes, size);
    std::uint64_t bits = 0;
    int held = 0;
    std::size_t next = 0;
    for (std::uint64_t i = 0; i < groups * 8 && numbers.size() < wanted; ++i) {
      while (held < width) {
        if (next == packed.size()) refuse("a page ends early");
        bits |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(packed[next++])) << held;
        held += 8;
      }
      numbers.push_back(static_cast<std::uint32_t>(bits & ((std::uint64_t{1} << width) - 1)));
      bits >>= width;
      held -= width;
    }
  }
  return numbers;
}

std::string_view take_bytes(std::string_view& bytes, std::uint64_t size) {
  if (size > bytes.size()) refuse("a page ends early");
  const std::string_view taken = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return taken;
}

std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto part = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(part & 0x7FU) << shift;
    if ((part & 0x80U) == 0) return value;
  }
  refuse("a page is broken");
}

std::uint32_t take_u32(std::string_view& bytes) {
  std::uint32_t value = 0;
  std::memcpy(&value, take_bytes(bytes, sizeof value).data(), sizeof value);
  return value;
}

std::uint64_t take_u64(std::string_view& bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, take_bytes(bytes, sizeof value).data(), sizeof value);
  return value;
}

}  // namespace espalier::parquet
