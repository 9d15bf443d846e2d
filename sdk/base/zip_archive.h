#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "espalier/base/api.h"

namespace espalier {

/// The directory of a zip archive (with its 64-bit form) whose entries are stored without
/// compression, as torch.save writes them. Source: APPNOTE.TXT 6.3.10 of PKWARE.
class ESPALIER_API ZipArchive {
 public:
  struct Entry {
    std::uint64_t begin = 0;  ///< of the content in the archive
    std::uint64_t size = 0;
  };

  /// `bytes` is the whole archive, which lives as long as this object; `where` names it in errors.
  /// Throws Error(kBadInput) for anything that is not such an archive, compressed entries among it.
  ZipArchive(std::span<const std::byte> bytes, std::string where);

  const std::map<std::string, Entry>& entries() const { return entries_; }
  /// nullptr when there is no such entry.
  const Entry* find(const std::string& name) const;
  std::span<const std::byte> content(const Entry& entry) const {
    return bytes_.subspan(entry.begin, entry.size);
  }

 private:
  struct Directory {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t count = 0;
  };
  Directory find_directory() const;
  std::uint64_t number(std::uint64_t offset, int bytes) const;
  std::string text(std::uint64_t offset, std::uint64_t size) const;
  std::uint64_t add_entry(std::uint64_t offset);
  std::uint64_t content_begin(std::uint64_t local_header) const;
  [[noreturn]] void refuse(const std::string& what, const std::string& found = {}) const;

  std::span<const std::byte> bytes_;
  std::string where_;
  std::map<std::string, Entry> entries_;
};

}  // namespace espalier
