#pragma once

#include <cstdint>
#include <vector>

#include "text/model/merge_table.h"
#include "text/model/model.h"

namespace espalier::text {

/// Applies merges to the symbols of one word: always the pair of least rank, the leftmost of equal
/// ones. Short words are scanned; long ones go over a heap, in O(n log n). Keeps its memory between
/// words; not thread safe.
class BpeMerger {
 public:
  /// Merges `symbols` in place.
  void merge(const MergeTable& merges, std::vector<TokenSpan>& symbols);

 private:
  struct Node {
    std::int32_t previous = -1;
    std::int32_t next = -1;
    bool alive = true;
  };
  struct Candidate {
    std::uint32_t rank = 0;
    std::uint32_t place = 0;
    std::int32_t id = 0;

    /// For a heap that has the first candidate to apply on top.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };

  void merge_short(const MergeTable& merges, std::vector<TokenSpan>& symbols);
  void merge_long(const MergeTable& merges, std::vector<TokenSpan>& symbols);
  void push(const MergeTable& merges, const std::vector<TokenSpan>& symbols, std::int32_t left,
            std::int32_t right);

  std::vector<Merge> with_next_;
  std::vector<Node> nodes_;
  std::vector<Candidate> heap_;
};

}  // namespace espalier::text
