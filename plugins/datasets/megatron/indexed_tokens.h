#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "espalier/base/file.h"

namespace espalier::megatron {

/// Sequences of tokens in Megatron's PREFIX.bin, found by PREFIX.idx (version 1):
///   "MMIDIDX\0\0" | version u64 | type of a token u8 | sequences u64 | document boundaries u64 |
///   lengths i32[sequences] | places in bytes i64[sequences] | boundaries i64[...]
/// Mapped; immutable; thread safe.
class IndexedTokens {
 public:
  /// Throws Error(kIo), and Error(kBadInput) for an index that is broken or does not fit its .bin.
  explicit IndexedTokens(const std::string& prefix);

  std::span<const std::int32_t> lengths() const { return lengths_; }
  const std::string& path() const { return tokens_.path(); }
  /// Appends tokens [from, from + count) of a sequence.
  void read(std::int64_t sequence, std::int64_t from, std::int64_t count,
            std::vector<std::int64_t>& out) const;

 private:
  MappedFile index_;
  MappedFile tokens_;
  std::uint8_t type_ = 0;
  std::int64_t width_ = 0;  ///< bytes of a token
  std::vector<std::int32_t> lengths_;
  std::vector<std::int64_t> places_;
};

}  // namespace espalier::megatron
