#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "espalier/base/api.h"

namespace espalier {

/// The whole file. Throws Error(kIo) with the path and the system's reason.
ESPALIER_API std::string read_file(const std::string& path);

/// Writes to a temporary neighbour, syncs it, renames it over `path` and syncs the folder: after a
/// crash there is the old file or the new one. Throws Error(kIo); the temporary file is removed
/// then.
ESPALIER_API void write_file_atomically(const std::string& path, std::string_view content);

/// A file mapped read-only, which stays open for positional reads too. Movable; unmaps and closes
/// on destruction.
class ESPALIER_API MappedFile {
 public:
  explicit MappedFile(std::string path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  /// Fills `out` from `offset` on by positional reads, which leave no pages mapped. Throws
  /// Error(kIo) when the file ends before. Safe from several threads at once.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Error(kIo) for a failed system call: "cannot open 'x': No such file or directory".
[[noreturn]] ESPALIER_API void throw_io(std::string_view action, const std::string& path,
                                        int error_number);

}  // namespace espalier
