#include "text/model/bpe_merger.h"

#include <algorithm>

namespace espalier::text {
namespace {

/// Scanning beats a heap up to about here.
constexpr std::size_t kLongestScanned = 40;

}  // namespace

void BpeMerger::merge(const MergeTable& merges, std::vector<TokenSpan>& symbols) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kLongestScanned) {
    merge_short(merges, symbols);
  } else {
    merge_long(merges, symbols);
  }
}

void BpeMerger::merge_short(const MergeTable& merges, std::vector<TokenSpan>& symbols) {
  std::size_t count = symbols.size();
  with_next_.resize(count);
  for (std::size_t i = 0; i + 1 < count; ++i)
    with_next_[i] = merges.find(symbols[i].id, symbols[i + 1].id);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (with_next_[i].rank < with_next_[best].rank) best = i;
    if (with_next_[best].rank == kNoRank) break;
    symbols[best] = merged(with_next_[best].id, symbols[best], symbols[best + 1]);
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(count),
              symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(with_next_.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              with_next_.begin() + static_cast<std::ptrdiff_t>(count),
              with_next_.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    --count;
    if (best > 0) with_next_[best - 1] = merges.find(symbols[best - 1].id, symbols[best].id);
    if (best + 1 < count) with_next_[best] = merges.find(symbols[best].id, symbols[best + 1].id);
  }
  symbols.resize(count);
}

void BpeMerger::push(const MergeTable& merges, const std::vector<TokenSpan>& symbols,
                     std::int32_t left, std::int32_t right) {
  const Merge merge = merges.find(symbols[static_cast<std::size_t>(left)].id,
                                  symbols[static_cast<std::size_t>(right)].id);
  if (merge.rank == kNoRank) return;
  heap_.push_back({merge.rank, static_cast<std::uint32_t>(left), merge.id});
  std::push_heap(heap_.begin(), heap_.end());
}

void BpeMerger::merge_long(const MergeTable& merges, std::vector<TokenSpan>& symbols) {
  const auto count = static_cast<std::int32_t>(symbols.size());
  nodes_.resize(symbols.size());
  heap_.clear();
  for (std::int32_t i = 0; i < count; ++i)
    nodes_[static_cast<std::size_t>(i)] = {i - 1, i + 1 < count ? i + 1 : -1, true};
  for (std::int32_t i = 0; i + 1 < count; ++i) push(merges, symbols, i, i + 1);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate top = heap_.back();
    heap_.pop_back();
    Node& node = nodes_[top.place];
    if (!node.alive || node.next < 0) continue;
    const auto right = static_cast<std::size_t>(node.next);
    // A neighbour may have changed since the candidate was found.
    if (merges.find(symbols[top.place].id, symbols[right].id).id != top.id) continue;
    symbols[top.place] = merged(top.id, symbols[top.place], symbols[right]);
    nodes_[right].alive = false;
    node.next = nodes_[right].next;
    if (node.next >= 0) {
      nodes_[static_cast<std::size_t>(node.next)].previous = static_cast<std::int32_t>(top.place);
      push(merges, symbols, static_cast<std::int32_t>(top.place), node.next);
    }
    if (node.previous >= 0)
      push(merges, symbols, node.previous, static_cast<std::int32_t>(top.place));
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i)
    if (nodes_[i].alive) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace espalier::text
