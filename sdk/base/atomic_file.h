#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// A file that appears at `path` whole or not at all: written to a temporary neighbour, which
/// `commit` syncs and renames. Without a commit the destructor removes it. Not thread safe. All
/// methods throw Error(kIo).
class ESPALIER_API AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void append(std::span<const std::byte> bytes);
  void append(std::string_view text) { append(std::as_bytes(std::span(text))); }
  std::uint64_t size() const { return size_; }

  /// Writes out, syncs the file, renames it over `path` and syncs the folder.
  void commit();

 private:
  void write_out(std::span<const std::byte> bytes);
  void flush();

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::vector<std::byte> buffer_;
};

/// Removes what killed processes left of AtomicFiles in `folder` itself, not below it. The caller
/// sees to it that no other process writes there. Throws Error(kIo).
ESPALIER_API void remove_unfinished_files(const std::string& folder);

/// Makes the names in `folder` durable. Throws Error(kIo).
ESPALIER_API void sync_folder(const std::string& folder);

}  // namespace espalier
