#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace espalier::text {

/// Places of a text that no merge can reach across: between characters a and b there is none unless
/// some merge joins a token that ends in a with one that starts with b. What lies between two such
/// places can be merged on its own, which makes words of texts that come in one piece.
class MergeBorders {
 public:
  MergeBorders() : kinds_(kTableSize, Kind::kUnknown) {}

  /// `point` is a token by itself.
  void add_character(char32_t point);
  void add_merge(std::string_view left, std::string_view right);
  /// After the last merge. With `unknown_vanish`, characters that are no token leave no trace, so
  /// that those around them become neighbours.
  void finish(bool unknown_vanish);

  /// End of the part of `text` that starts at `begin` and can be merged on its own.
  std::size_t part_end(std::string_view text, std::size_t begin) const;

 private:
  enum class Kind : std::uint8_t {
    kUnknown,  ///< no token: no border, since unknown characters may be fused
    kFree,     ///< a border before it always
    kSome,     ///< a border before it unless `joined_` has the pair
    kMany,     ///< too often joined to be worth a look
  };
  static constexpr std::size_t kTableSize = 0x10000;

  static std::uint64_t key(char32_t before, char32_t point) {
    return std::uint64_t{before} << 32U | point;
  }

  std::vector<Kind> kinds_;
  bool unknown_vanish_ = false;
  std::vector<std::uint64_t> joined_;  ///< sorted; second characters of kind kSome alone
};

}  // namespace espalier::text
