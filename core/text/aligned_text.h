#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/pattern/pattern.h"

namespace espalier::text {

/// Half-open range of bytes of the original text.
struct ByteRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// One character of a transformed text. `change` tells where it comes from: 0 takes the place of
/// one old character, -n of 1 + n old characters, 1 is inserted (and belongs to the place before
/// it).
struct CharChange {
  char32_t point = 0;
  int change = 0;
};

/// A text that normalizers change while it remembers which bytes of the original each of its bytes
/// stands for. Starts as a view of the original and becomes a copy with the first change.
class AlignedText {
 public:
  /// `original` must outlive this object; `begin` is the place of its first byte in the whole
  /// input. Without `track`, alignments are not kept (range() is meaningless then).
  AlignedText(std::string_view original, std::uint32_t begin, bool track)
      : view_(original), base_(begin), track_(track) {}
  AlignedText(const AlignedText&) = delete;
  AlignedText& operator=(const AlignedText&) = delete;

  std::string_view view() const { return view_; }
  bool tracked() const { return track_; }
  bool changed() const { return changed_; }

  /// Original bytes of the character that byte `at` belongs to.
  ByteRange range(std::uint32_t at) const;
  /// From the first byte of `begin`'s character to the last of that before `end`.
  ByteRange range(std::uint32_t begin, std::uint32_t end) const;
  /// Appends the alignment of the bytes [begin, end).
  void copy_alignment(std::uint32_t begin, std::uint32_t end, std::vector<ByteRange>& out) const;

  /// Replaces the bytes [begin, end). The changes have to use up exactly its characters, after the
  /// first `skipped` ones.
  void transform(std::uint32_t begin, std::uint32_t end, const std::vector<CharChange>& changes,
                 std::size_t skipped = 0);
  void transform(const std::vector<CharChange>& changes, std::size_t skipped = 0) {
    transform(0, static_cast<std::uint32_t>(view_.size()), changes, skipped);
  }
  /// Puts `text` before the first character, whose place it shares; nothing for an empty text.
  void prepend(std::string_view text);
  void append(std::string_view text);
  /// Puts `content` in place of every match.
  void replace(const Pattern& pattern, std::string_view content);
  /// Takes over a text made elsewhere, with the alignment of each byte (empty when not tracked).
  void assign(std::string text, std::vector<ByteRange> alignment);

 private:
  std::string_view view_;
  std::string storage_;
  std::vector<ByteRange> alignment_;  // absolute; empty while unchanged
  std::uint32_t base_ = 0;
  bool track_ = false;
  bool changed_ = false;
};

}  // namespace espalier::text
