#include "delta.h"

#include <algorithm>

#include "encoding.h"
#include "thrift.h"

namespace espalier::parquet {
namespace {

constexpr std::uint64_t kMostTextBytes = std::uint64_t{1} << 30;

std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1U) ^ -static_cast<std::int64_t>(value & 1U);
}

/// `count` numbers of `width` bits, from the lowest bit up; `bytes` are as many as they need.
void unpack(std::string_view bytes, unsigned width, std::uint64_t count,
            std::vector<std::uint64_t>& out) {
  std::size_t bit = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t value = 0;
    for (unsigned done = 0; done < width;) {
      const auto byte = static_cast<std::uint8_t>(bytes[bit / 8]);
      const unsigned offset = bit % 8;
      const unsigned taken = std::min(8 - offset, width - done);
      const std::uint64_t part = static_cast<std::uint64_t>(byte >> offset) & ((1U << taken) - 1);
      value |= part << done;
      done += taken;
      bit += taken;
    }
    out.push_back(value);
  }
}

}  // namespace

std::vector<std::int64_t> decode_delta_numbers(std::string_view& bytes, std::int64_t count) {
  const std::uint64_t block = take_varint(bytes);
  const std::uint64_t parts = take_varint(bytes);
  const std::uint64_t total = take_varint(bytes);
  auto last = static_cast<std::uint64_t>(unzigzag(take_varint(bytes)));
  constexpr std::uint64_t kMostBlock = 1U << 20U;
  if (parts == 0 || block == 0 || block > kMostBlock || block % parts != 0 ||
      (block / parts) % 8 != 0 || total != static_cast<std::uint64_t>(count))
    refuse("a page is broken");
  const std::uint64_t part_size = block / parts;
  std::vector<std::int64_t> numbers;
  if (count > 0) numbers.push_back(static_cast<std::int64_t>(last));
  std::vector<std::uint64_t> deltas;
  while (numbers.size() < total) {
    const auto least = static_cast<std::uint64_t>(unzigzag(take_varint(bytes)));
    const std::string_view widths = take_bytes(bytes, parts);
    for (std::uint64_t part = 0; part < parts && numbers.size() < total; ++part) {
      const auto width = static_cast<std::uint8_t>(widths[part]);
      if (width > 64) refuse("a page is broken");
      deltas.clear();
      unpack(take_bytes(bytes, part_size / 8 * width), width, part_size, deltas);
      for (std::uint64_t i = 0; i < part_size && numbers.size() < total; ++i) {
        last += least + deltas[i];
        numbers.push_back(static_cast<std::int64_t>(last));
      }
    }
  }
  return numbers;
}

std::vector<std::string> decode_delta_lengths(std::string_view bytes, std::int64_t count) {
  std::vector<std::string> texts;
  for (const std::int64_t length : decode_delta_numbers(bytes, count)) {
    if (length < 0) refuse("a page is broken");
    texts.emplace_back(take_bytes(bytes, static_cast<std::uint64_t>(length)));
  }
  return texts;
}

std::vector<std::string> decode_delta_texts(std::string_view bytes, std::int64_t count) {
  const std::vector<std::int64_t> prefixes = decode_delta_numbers(bytes, count);
  std::vector<std::string> texts = decode_delta_lengths(bytes, count);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::int64_t shared = prefixes[i];
    const std::int64_t available = i == 0 ? 0 : std::ssize(texts[i - 1]);
    if (shared < 0 || shared > available) refuse("a page is broken");
    if (shared > 0) texts[i].insert(0, texts[i - 1], 0, static_cast<std::size_t>(shared));
    total += texts[i].size();
    if (total > kMostTextBytes) refuse("a page is broken");
  }
  return texts;
}

std::string join_byte_streams(std::string_view bytes, std::size_t width, std::int64_t count) {
  const auto values = static_cast<std::size_t>(count);
  if (width == 0 || bytes.size() / width < values) refuse("a page ends early");
  std::string joined(values * width, '\0');
  for (std::size_t stream = 0; stream < width; ++stream)
    for (std::size_t i = 0; i < values; ++i)
      joined[i * width + stream] = bytes[stream * values + i];
  return joined;
}

}  // namespace espalier::parquet
