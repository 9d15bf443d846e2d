#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/atomic_file.h"
#include "espalier/base/file.h"

namespace espalier {

/// A file of lists of 32-bit numbers, mapped into memory: tokens of samples or documents. It
/// carries the key of what it was made from, and digests of its own index.
///   magic "ESPTOK01" | key, 64 hexadecimal digits | lists u64 | numbers u64 |
///   numbers i32... | begins u64[lists + 1] | sha256 of all but the numbers, 64 digits
/// Immutable; thread safe.
class ESPALIER_API TokenFile {
 public:
  /// nullopt, with the reason in `why`, for a file that is not there ("" then), of another key, cut
  /// short or damaged.
  static std::optional<TokenFile> open(const std::string& path, const std::string& key,
                                       std::string& why);

  std::int64_t size() const { return static_cast<std::int64_t>(begins_.size()) - 1; }
  /// List `index` of [0, size); a view of the file, good while this lives.
  std::span<const std::int32_t> list(std::int64_t index) const;
  /// All lists, one after the other.
  std::span<const std::int32_t> all() const { return numbers_; }

 private:
  explicit TokenFile(MappedFile file) : file_(std::move(file)) {}

  MappedFile file_;
  std::span<const std::int32_t> numbers_;
  std::span<const std::uint64_t> begins_;
};

/// Writes a TokenFile beside its place; it appears there whole, at `commit`, and without it nothing
/// stays. One thread at a time. Throws Error(kIo).
class ESPALIER_API TokenFileWriter {
 public:
  TokenFileWriter(const std::string& path, const std::string& key);

  void append(std::span<const std::int32_t> list);
  void commit();

 private:
  AtomicFile file_;
  std::string key_;
  std::vector<std::uint64_t> begins_ = {0};
};

/// A digest of what samples are made from: the content of `files` and further `texts`.
/// Throws Error(kIo).
ESPALIER_API std::string digest_of(const std::vector<std::string>& files,
                                   const std::vector<std::string>& texts);

/// The files of a model's folder that decide which tokens a text becomes; those that are there.
ESPALIER_API std::vector<std::string> tokenizer_files(const std::string& model_folder);

/// Runs `work(i)` for i in [0, count) on several threads. The first exception is thrown again.
ESPALIER_API void run_in_parallel(std::int64_t count,
                                  const std::function<void(std::int64_t)>& work);

}  // namespace espalier
