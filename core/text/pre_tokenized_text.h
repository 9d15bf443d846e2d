#pragma once

#include <cstdint>
#include <deque>
#include <string_view>
#include <vector>

#include "text/aligned_text.h"

namespace espalier::text {

/// A part of a text that is either an added token already or goes to the model as one word.
struct Piece {
  const AlignedText* text = nullptr;
  std::uint32_t begin = 0;  ///< bytes of `text`
  std::uint32_t end = 0;
  std::int32_t added_id = -1;
  /// The model has to read the bytes through the byte-level alphabet.
  bool byte_level = false;

  std::string_view view() const { return text->view().substr(begin, end - begin); }
};

/// The pieces of one input on its way from normalizer to model, in order. Not thread safe.
class PreTokenizedText {
 public:
  PreTokenizedText(std::string_view original, bool track) : track_(track) {
    if (!original.empty())
      pieces.push_back({&add_text(original, 0), 0, static_cast<std::uint32_t>(original.size())});
  }

  bool tracked() const { return track_; }
  AlignedText& add_text(std::string_view original, std::uint32_t begin) {
    return texts_.emplace_back(original, begin, track_);
  }
  /// A text of its own for a piece that is about to change, with the alignment it has now.
  AlignedText& detach(const Piece& piece);

  /// Calls `split(piece, out)` for every piece that is not an added token; what it appends to `out`
  /// takes the place of the piece. Empty pieces are dropped.
  template <class Split>
  void split(Split&& split) {
    scratch_.clear();
    for (const Piece& piece : pieces) {
      if (piece.added_id >= 0) {
        scratch_.push_back(piece);
        continue;
      }
      const std::size_t before = scratch_.size();
      split(piece, scratch_);
      std::size_t kept = before;
      for (std::size_t i = before; i < scratch_.size(); ++i)
        if (scratch_[i].begin < scratch_[i].end) scratch_[kept++] = scratch_[i];
      scratch_.resize(kept);
    }
    pieces.swap(scratch_);
  }

  std::vector<Piece> pieces;
  std::vector<Span> spans;  ///< scratch space of pre-tokenizers

 private:
  std::deque<AlignedText> texts_;  // a deque: pieces point into it
  std::vector<Piece> scratch_;
  bool track_;
};

}  // namespace espalier::text
