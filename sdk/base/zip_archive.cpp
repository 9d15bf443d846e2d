#include "espalier/base/zip_archive.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr std::uint64_t kLocalHeader = 0x04034b50;
constexpr std::uint64_t kCentralHeader = 0x02014b50;
constexpr std::uint64_t kEnd = 0x06054b50;
constexpr std::uint64_t kEnd64 = 0x06064b50;
constexpr std::uint64_t kEnd64Locator = 0x07064b50;
constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint64_t kLongestComment = 0xffff;
constexpr std::uint64_t kLocalBytes = 30;
constexpr std::uint64_t kCentralBytes = 46;
constexpr std::uint64_t kLocatorBytes = 20;
constexpr std::uint64_t kZip64Extra = 1;
constexpr std::uint64_t kIn64 = 0xffffffff;  // the value stands in the 64-bit part

}  // namespace

ZipArchive::ZipArchive(std::span<const std::byte> bytes, std::string where)
    : bytes_(bytes), where_(std::move(where)) {
  const Directory directory = find_directory();
  std::uint64_t offset = directory.offset;
  for (std::uint64_t i = 0; i < directory.count; ++i) offset = add_entry(offset);
}

void ZipArchive::refuse(const std::string& what, const std::string& found) const {
  throw_bad_input("the zip archive " + what, found,
                  "an archive without compression, as torch.save and numpy.savez write it", where_,
                  "the file is damaged or was not downloaded completely: fetch it again");
}

std::uint64_t ZipArchive::number(std::uint64_t offset, int bytes) const {
  if (offset > bytes_.size() || bytes_.size() - offset < static_cast<std::uint64_t>(bytes))
    refuse("ends in the middle of its directory");
  std::uint64_t value = 0;
  for (int i = bytes; i-- > 0;)
    value =
        value << 8 | std::to_integer<std::uint64_t>(bytes_[offset + static_cast<std::size_t>(i)]);
  return value;
}

std::string ZipArchive::text(std::uint64_t offset, std::uint64_t size) const {
  if (offset > bytes_.size() || bytes_.size() - offset < size)
    refuse("ends in the middle of its directory");
  return {reinterpret_cast<const char*>(bytes_.data()) + offset, size};
}

ZipArchive::Directory ZipArchive::find_directory() const {
  if (bytes_.size() < kEndBytes) refuse("is too short", std::to_string(bytes_.size()) + " bytes");
  const std::uint64_t last = bytes_.size() - kEndBytes;
  const std::uint64_t first = last > kLongestComment ? last - kLongestComment : 0;
  std::uint64_t end = last + 1;
  while (end-- > first) {
    if (number(end, 4) == kEnd && number(end + 20, 2) == last - end) break;
  }
  if (end + 1 == first || end > last) refuse("has no directory at its end");
  Directory directory{number(end + 16, 4), number(end + 12, 4), number(end + 10, 2)};
  if (end >= kLocatorBytes && number(end - kLocatorBytes, 4) == kEnd64Locator) {
    const std::uint64_t end64 = number(end - kLocatorBytes + 8, 8);
    if (number(end64, 4) != kEnd64) refuse("has a broken 64-bit directory");
    directory = {number(end64 + 48, 8), number(end64 + 40, 8), number(end64 + 32, 8)};
  }
  if (directory.offset > bytes_.size() || bytes_.size() - directory.offset < directory.size ||
      directory.count > directory.size / kCentralBytes)
    refuse("has a directory that lies outside of the file");
  return directory;
}

/// Reads the directory's entry at `offset` and returns where the next one begins.
std::uint64_t ZipArchive::add_entry(std::uint64_t offset) {
  if (number(offset, 4) != kCentralHeader) refuse("has a broken directory");
  const std::uint64_t name_bytes = number(offset + 28, 2);
  const std::uint64_t extra_bytes = number(offset + 30, 2);
  const std::uint64_t comment_bytes = number(offset + 32, 2);
  const std::string name = text(offset + kCentralBytes, name_bytes);
  std::uint64_t stored = number(offset + 20, 4);
  std::uint64_t size = number(offset + 24, 4);
  std::uint64_t local = number(offset + 42, 4);
  const std::uint64_t extra_end = offset + kCentralBytes + name_bytes + extra_bytes;
  for (std::uint64_t at = offset + kCentralBytes + name_bytes; at + 4 <= extra_end;) {
    const std::uint64_t field_bytes = number(at + 2, 2);
    if (number(at, 2) == kZip64Extra) {
      std::uint64_t field = at + 4;
      for (std::uint64_t* value : {&size, &stored, &local}) {  // in this order, those that need it
        if (*value != kIn64) continue;
        *value = number(field, 8);
        field += 8;
      }
    }
    at += 4 + field_bytes;
  }
  if ((number(offset + 8, 2) & 1) != 0) refuse("is encrypted", "entry '" + name + "'");
  if (number(offset + 10, 2) != 0 || stored != size)
    refuse("has a compressed entry", "entry '" + name + "'");
  const std::uint64_t begin = content_begin(local);
  if (begin > bytes_.size() || bytes_.size() - begin < size)
    refuse("has an entry that passes the end of the file", "entry '" + name + "'");
  if (!entries_.emplace(name, Entry{begin, size}).second)
    refuse("has two entries of one name", "entry '" + name + "'");
  return extra_end + comment_bytes;
}

std::uint64_t ZipArchive::content_begin(std::uint64_t local_header) const {
  if (local_header > bytes_.size() || number(local_header, 4) != kLocalHeader)
    refuse("has an entry that is not where its directory says");
  return local_header + kLocalBytes + number(local_header + 26, 2) + number(local_header + 28, 2);
}

const ZipArchive::Entry* ZipArchive::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace espalier
