#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier::text {

/// Strings to non-negative numbers, made to be walked byte by byte: a double array (Aoe, 1989) in
/// which the child for a byte stands at the node's base XOR the byte.
class ByteTrie {
 public:
  ByteTrie() = default;
  /// Of equal keys the last one counts. Empty keys are left out. Keys are read during construction
  /// only.
  explicit ByteTrie(std::vector<std::pair<std::string_view, std::int32_t>> entries);

  static constexpr std::uint32_t kRoot = 0;

  /// Goes from `node` to its child for `byte`; false when there is none.
  bool step(std::uint32_t& node, char byte) const {
    const std::uint32_t child = nodes_[node].base ^ static_cast<unsigned char>(byte);
    if (nodes_[child].parent != node) return false;
    node = child;
    return true;
  }
  /// -1 when no key ends here.
  std::int32_t value(std::uint32_t node) const { return nodes_[node].value; }

  /// Length and value of the longest key that `text` starts with; length 0 when there is none.
  std::pair<std::size_t, std::int32_t> longest_prefix(std::string_view text) const;

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  static constexpr std::uint32_t kBlock = 256;

  struct Node {
    std::uint32_t base = 0;
    std::uint32_t parent = kNone;  ///< kNone: free
    std::int32_t value = -1;
  };
  using Entries = std::vector<std::pair<std::string_view, std::int32_t>>;

  std::uint32_t find_base(const std::vector<unsigned char>& labels);
  bool fits(std::uint32_t base, const std::vector<unsigned char>& labels) const;
  void add_block();

  std::vector<Node> nodes_ = std::vector<Node>(kBlock);
  std::uint32_t first_open_ = 1;  ///< construction only: no free node before this one
};

}  // namespace espalier::text
