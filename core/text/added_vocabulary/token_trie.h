#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace espalier::text {

/// Finds the longest of a set of strings at a place; built for few strings and long texts in which
/// they are rare.
class TokenTrie {
 public:
  void add(std::string_view token, std::int32_t id);
  bool empty() const { return nodes_.size() == 1; }

  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = -1;
  };
  /// The first match at or after `from`, the longest one at its place; id -1 when there is none.
  Match find(std::string_view text, std::size_t from) const;

 private:
  struct Node {
    std::int32_t id = -1;
    std::vector<std::pair<char, std::uint32_t>> children;
  };

  std::array<bool, 256> starts_{};
  std::array<bool, 65536> starts_with_pair_{};  ///< first two bytes, or a token of one byte
  std::vector<Node> nodes_ = std::vector<Node>(1);
};

}  // namespace espalier::text
