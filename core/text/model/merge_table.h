#pragma once

#include <cstdint>
#include <vector>

namespace espalier::text {

inline constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

/// What two neighbouring tokens merge to; a smaller rank goes first.
struct Merge {
  std::uint32_t rank = kNoRank;
  std::int32_t id = -1;
};

/// Pairs of tokens to merges, with open addressing.
class MergeTable {
 public:
  void reserve(std::size_t merges) {
    std::size_t capacity = 16;
    while (capacity < merges * 2) capacity *= 2;
    slots_.assign(capacity, {});
  }
  /// Up to the number that was reserved. A pair that comes again gets the later rank.
  void set(std::int32_t left, std::int32_t right, Merge merge) {
    Slot& slot = slots_[place_of(key(left, right))];
    slot.pair = key(left, right);
    slot.merge = merge;
  }
  Merge find(std::int32_t left, std::int32_t right) const {
    return slots_.empty() ? Merge{} : slots_[place_of(key(left, right))].merge;
  }

 private:
  struct Slot {
    std::uint64_t pair = 0;
    Merge merge;
  };

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32U |
           static_cast<std::uint32_t>(right);
  }
  std::size_t place_of(std::uint64_t pair) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t place = (pair * 0x9E3779B97F4A7C15ULL >> 29U) & mask;
    while (slots_[place].merge.rank != kNoRank && slots_[place].pair != pair)
      place = (place + 1) & mask;
    return place;
  }

  std::vector<Slot> slots_;
};

}  // namespace espalier::text
