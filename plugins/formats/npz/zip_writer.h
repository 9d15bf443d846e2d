#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "espalier/base/atomic_file.h"

/// Writes a zip archive of entries without compression, in its 64-bit form and in one pass: sizes
/// and check sums stand behind each entry and in the directory. Source: APPNOTE.TXT 6.3.10 of
/// PKWARE. Throws espalier::Error(kIo).
class ZipWriter {
 public:
  explicit ZipWriter(const std::string& path) : file_(path) {}

  void begin(const std::string& name);
  void append(std::span<const std::byte> bytes);
  void end();
  /// The archive appears at its path.
  void commit();

 private:
  struct Entry {
    std::string name;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint32_t check_sum = 0;
  };
  void number(std::uint64_t value, int bytes);

  espalier::AtomicFile file_;
  std::vector<Entry> entries_;
};
