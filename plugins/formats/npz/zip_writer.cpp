#include "zip_writer.h"

#include <array>

namespace {

constexpr std::uint64_t kVersion = 45;    // 64-bit sizes
constexpr std::uint64_t kFlags = 0x0808;  // sizes follow the content; names are UTF-8
constexpr std::uint64_t kDate = 0x0021;   // 1980-01-01, so that equal content is equal bytes
constexpr std::uint64_t kElsewhere = 0xffffffff;

/// CRC-32 of ISO 3309, as zip has it.
std::uint32_t check_sum_of(std::uint32_t sum, std::span<const std::byte> bytes) {
  static const std::array<std::uint32_t, 256> kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit)
        value = (value & 1U) != 0 ? 0xEDB88320U ^ (value >> 1U) : value >> 1U;
      table[i] = value;
    }
    return table;
  }();
  sum = ~sum;
  for (const std::byte byte : bytes)
    sum = kTable[(sum ^ std::to_integer<std::uint32_t>(byte)) & 0xFFU] ^ (sum >> 8U);
  return ~sum;
}

}  // namespace

void ZipWriter::number(std::uint64_t value, int bytes) {
  std::array<std::byte, 8> little{};
  for (int i = 0; i < bytes; ++i)
    little[static_cast<std::size_t>(i)] = static_cast<std::byte>(value >> (8 * i) & 0xFFU);
  file_.append(std::span<const std::byte>(little).first(static_cast<std::size_t>(bytes)));
}

void ZipWriter::begin(const std::string& name) {
  entries_.push_back({name, file_.size(), 0, 0});
  number(0x04034b50, 4);
  number(kVersion, 2);
  number(kFlags, 2);
  number(0, 2);  // stored
  number(0, 2);  // midnight
  number(kDate, 2);
  number(0, 4);
  number(kElsewhere, 4);
  number(kElsewhere, 4);
  number(name.size(), 2);
  number(20, 2);
  file_.append(name);
  number(1, 2);  // the 64-bit sizes, which follow the content
  number(16, 2);
  number(0, 8);
  number(0, 8);
}

void ZipWriter::append(std::span<const std::byte> bytes) {
  entries_.back().size += bytes.size();
  entries_.back().check_sum = check_sum_of(entries_.back().check_sum, bytes);
  file_.append(bytes);
}

void ZipWriter::end() {
  number(0x08074b50, 4);
  number(entries_.back().check_sum, 4);
  number(entries_.back().size, 8);
  number(entries_.back().size, 8);
}

void ZipWriter::commit() {
  const std::uint64_t start = file_.size();
  for (const Entry& entry : entries_) {
    number(0x02014b50, 4);
    number(kVersion, 2);
    number(kVersion, 2);
    number(kFlags, 2);
    number(0, 2);
    number(0, 2);
    number(kDate, 2);
    number(entry.check_sum, 4);
    number(kElsewhere, 4);
    number(kElsewhere, 4);
    number(entry.name.size(), 2);
    number(28, 2);
    number(0, 2);  // comment
    number(0, 2);  // disk
    number(0, 2);  // attributes
    number(0, 4);
    number(kElsewhere, 4);
    file_.append(entry.name);
    number(1, 2);
    number(24, 2);
    number(entry.size, 8);
    number(entry.size, 8);
    number(entry.offset, 8);
  }
  const std::uint64_t end64 = file_.size();
  number(0x06064b50, 4);
  number(44, 8);
  number(kVersion, 2);
  number(kVersion, 2);
  number(0, 4);
  number(0, 4);
  number(entries_.size(), 8);
  number(entries_.size(), 8);
  number(end64 - start, 8);
  number(start, 8);
  number(0x07064b50, 4);
  number(0, 4);
  number(end64, 8);
  number(1, 4);
  number(0x06054b50, 4);
  number(0, 2);
  number(0, 2);
  number(0xffff, 2);
  number(0xffff, 2);
  number(kElsewhere, 4);
  number(kElsewhere, 4);
  number(0, 2);
  file_.commit();
}
