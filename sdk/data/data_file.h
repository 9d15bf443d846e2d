#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "espalier/base/api.h"
#include "espalier/base/file.h"

namespace espalier {

/// The bytes of a file from front to back: as they are, or decompressed where the file begins as
/// gzip (RFC 1952) or Zstandard (RFC 8878) does, whatever its name. Several compressed parts one
/// after the other are one text. One thread at a time.
class ESPALIER_API ByteStream {
 public:
  /// Throws Error(kIo).
  explicit ByteStream(std::string path);
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;
  ~ByteStream();

  /// Fills `out` from the front; 0 at the end. Throws Error(kIo), and Error(kBadInput) where
  /// compressed data is broken or ends early.
  std::size_t read(std::span<char> out);
  bool is_compressed() const;
  const std::string& path() const { return path_; }

 private:
  struct Decoder;

  std::string path_;
  std::unique_ptr<Decoder> decoder_;
};

/// A whole file of text: mapped, or in memory where it was compressed. Movable; its views are good
/// while it lives, moved or not. Immutable; thread safe.
class ESPALIER_API DataFile {
 public:
  /// Throws as ByteStream does.
  explicit DataFile(const std::string& path);

  /// Without the byte order mark.
  std::string_view text() const { return text_; }
  const std::string& path() const { return path_; }
  /// Number of the line that a part of the text begins in; counts line breaks up to there.
  std::size_t line_of(std::string_view part) const;

 private:
  std::string path_;
  std::optional<MappedFile> mapped_;
  std::unique_ptr<const std::string> decompressed_;
  std::string_view text_;
};

}  // namespace espalier
