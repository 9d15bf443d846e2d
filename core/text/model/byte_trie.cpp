#include "text/model/byte_trie.h"

#include <algorithm>

namespace espalier::text {

ByteTrie::ByteTrie(Entries entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const bool replaced = i + 1 < entries.size() && entries[i + 1].first == entries[i].first;
    if (!entries[i].first.empty() && !replaced) entries[kept++] = entries[i];
  }
  entries.resize(kept);
  nodes_[kRoot].parent = kRoot;
  // The root is its own parent, so its base must not lead back to it.
  nodes_[kRoot].base = kBlock;
  add_block();
  struct Range {
    std::size_t begin;
    std::size_t end;
    std::size_t depth;
    std::uint32_t node;
  };
  std::vector<Range> open = {{0, entries.size(), 0, kRoot}};
  std::vector<unsigned char> labels;
  while (!open.empty()) {
    const Range range = open.back();
    open.pop_back();
    labels.clear();
    std::size_t begin = range.begin;
    if (begin < range.end && entries[begin].first.size() == range.depth) {
      nodes_[range.node].value = entries[begin].second;
      ++begin;
    }
    const auto label_of = [&](std::size_t i) {
      return static_cast<unsigned char>(entries[i].first[range.depth]);
    };
    for (std::size_t i = begin; i < range.end; ++i)
      if (labels.empty() || labels.back() != label_of(i)) labels.push_back(label_of(i));
    if (labels.empty()) continue;  // base 0 is as good as any: no node there has this parent
    const std::uint32_t base = range.node == kRoot ? kBlock : find_base(labels);
    nodes_[range.node].base = base;
    for (const unsigned char label : labels) nodes_[base ^ label].parent = range.node;
    for (std::size_t i = begin; i < range.end;) {
      std::size_t end = i;
      while (end < range.end && label_of(end) == label_of(i)) ++end;
      open.push_back({i, end, range.depth + 1, base ^ label_of(i)});
      i = end;
    }
  }
  nodes_.shrink_to_fit();
}

void ByteTrie::add_block() { nodes_.resize(nodes_.size() + kBlock); }

bool ByteTrie::fits(std::uint32_t base, const std::vector<unsigned char>& labels) const {
  return std::all_of(labels.begin(), labels.end(),
                     [&](unsigned char label) { return nodes_[base ^ label].parent == kNone; });
}

std::uint32_t ByteTrie::find_base(const std::vector<unsigned char>& labels) {
  // A bounded stretch is looked at, so that construction stays linear; nodes that are left free
  // before it are given up.
  constexpr std::uint32_t kStretch = 1024;
  while (first_open_ < nodes_.size() && nodes_[first_open_].parent != kNone) ++first_open_;
  const auto size = static_cast<std::uint32_t>(nodes_.size());
  const std::uint32_t stop = std::min(size, first_open_ + kStretch);
  for (std::uint32_t place = first_open_; place < stop; ++place) {
    const std::uint32_t base = place ^ labels[0];
    if (nodes_[place].parent == kNone && fits(base, labels)) return base;
  }
  if (stop < size) first_open_ += kStretch / 4;
  add_block();
  return size;
}

std::pair<std::size_t, std::int32_t> ByteTrie::longest_prefix(std::string_view text) const {
  std::pair<std::size_t, std::int32_t> best{0, -1};
  std::uint32_t node = kRoot;
  for (std::size_t at = 0; at < text.size() && step(node, text[at]); ++at)
    if (value(node) >= 0) best = {at + 1, value(node)};
  return best;
}

}  // namespace espalier::text
