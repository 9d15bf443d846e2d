#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::text {

/// Fast hash of short strings; not meant to resist chosen keys.
inline std::uint64_t hash_bytes(std::string_view key) {
  constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15ULL;
  const auto mix = [](std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
  };
  std::uint64_t hash = key.size() * kFactor + 0x1234567;
  const char* data = key.data();
  std::size_t left = key.size();
  while (left > 8) {
    std::uint64_t chunk = 0;
    std::memcpy(&chunk, data, 8);
    hash = mix(hash ^ chunk, kFactor);
    data += 8;
    left -= 8;
  }
  std::uint64_t tail = 0;
  if (left >= 4) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + left - 4, 4);
    tail = static_cast<std::uint64_t>(high) << 32U | low;
  } else if (left > 0) {
    tail = static_cast<unsigned char>(data[0]) |
           static_cast<std::uint64_t>(static_cast<unsigned char>(data[left / 2])) << 8U |
           static_cast<std::uint64_t>(static_cast<unsigned char>(data[left - 1])) << 16U;
  }
  return mix(hash ^ tail, kFactor ^ 0xABCDEF);
}

/// Strings to non-negative numbers, with open addressing; keys are copied into one block.
class StringMap {
 public:
  void reserve(std::size_t entries, std::size_t bytes) {
    keys_.reserve(bytes);
    rehash(entries * 2);
  }
  std::size_t size() const { return size_; }

  /// -1 when there is no such key.
  std::int32_t find(std::string_view key) const {
    return slots_.empty() ? -1 : slots_[place_of(key, hash_bytes(key))].value;
  }
  /// Replaces the value of a key that is there.
  void set(std::string_view key, std::int32_t value) {
    if ((size_ + 1) * 2 > slots_.size()) rehash(slots_.size() * 2);
    const std::uint64_t hash = hash_bytes(key);
    Slot& slot = slots_[place_of(key, hash)];
    if (slot.value < 0) {
      slot = {static_cast<std::uint32_t>(hash >> 32U), static_cast<std::uint32_t>(keys_.size()),
              static_cast<std::uint32_t>(key.size()), value};
      keys_ += key;
      ++size_;
    } else {
      slot.value = value;
    }
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;  ///< upper half
    std::uint32_t begin = 0;
    std::uint32_t length = 0;
    std::int32_t value = -1;  ///< negative: free
  };

  std::string_view key_of(const Slot& slot) const {
    return std::string_view(keys_).substr(slot.begin, slot.length);
  }
  std::size_t place_of(std::string_view key, std::uint64_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t place = hash & mask;
    while (slots_[place].value >= 0 &&
           !(slots_[place].hash == hash >> 32U && key_of(slots_[place]) == key))
      place = (place + 1) & mask;
    return place;
  }
  void rehash(std::size_t wanted) {
    std::size_t capacity = 16;
    while (capacity < wanted) capacity *= 2;
    std::vector<Slot> old(capacity);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.value < 0) continue;
      const std::string_view key = key_of(slot);
      slots_[place_of(key, hash_bytes(key))] = slot;
    }
  }

  std::vector<Slot> slots_;
  std::string keys_;
  std::size_t size_ = 0;
};

}  // namespace espalier::text
