#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/model/model.h"
#include "text/model/string_map.h"

namespace espalier::text {

/// Tokens of the words seen so far. Bounded: starts anew when it is full. Not thread safe.
class WordCache {
 public:
  static constexpr std::size_t kLongestWord = 255;

  /// Tokens of `word`; a null data pointer when it is not there.
  std::span<const TokenSpan> find(std::string_view word, std::uint64_t hash) const {
    if (slots_.empty()) return {};
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t place = hash & mask; slots_[place].count != 0; place = (place + 1) & mask) {
      const Slot& slot = slots_[place];
      if (slot.hash == static_cast<std::uint32_t>(hash >> 32U) && slot.key_length == word.size() &&
          std::memcmp(keys_.data() + slot.key, word.data(), word.size()) == 0)
        return {tokens_.data() + slot.tokens, slot.count};
    }
    return {};
  }

  void insert(std::string_view word, std::uint64_t hash, std::span<const TokenSpan> tokens) {
    if (word.size() > kLongestWord || tokens.empty()) return;
    if ((size_ + 1) * 2 > slots_.size()) grow();
    const Slot slot{
        static_cast<std::uint32_t>(hash >> 32U),  static_cast<std::uint32_t>(hash),
        static_cast<std::uint32_t>(keys_.size()), static_cast<std::uint32_t>(tokens_.size()),
        static_cast<std::uint16_t>(word.size()),  static_cast<std::uint16_t>(tokens.size())};
    keys_ += word;
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    place(slot);
    ++size_;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;      ///< upper half
    std::uint32_t hash_low = 0;  ///< for growing
    std::uint32_t key = 0;
    std::uint32_t tokens = 0;
    std::uint16_t key_length = 0;
    std::uint16_t count = 0;  ///< 0: free
  };
  static constexpr std::size_t kFirstCapacity = 1U << 12U;
  static constexpr std::size_t kMostCapacity = 1U << 18U;

  void place(const Slot& slot) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = slot.hash_low & mask;
    while (slots_[at].count != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }

  void grow() {
    if (slots_.size() >= kMostCapacity) {
      slots_.assign(kFirstCapacity, {});
      keys_.clear();
      tokens_.clear();
      size_ = 0;
      return;
    }
    std::vector<Slot> old(slots_.empty() ? kFirstCapacity : slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.count != 0) place(slot);
  }

  std::vector<Slot> slots_;
  std::string keys_;
  std::vector<TokenSpan> tokens_;
  std::size_t size_ = 0;
};

}  // namespace espalier::text
