#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"
#include "text/model/string_map.h"

namespace espalier::text {

/// Tokens and ids of a model. With `raw_bytes`, tokens of the byte-level alphabet are found by the
/// bytes that they stand for.
class Vocabulary {
 public:
  /// From an object of token to id.
  Vocabulary(const JsonNode& section, bool raw_bytes);

  /// By the spelling in the file; -1 for an unknown token.
  std::int32_t token_to_id(std::string_view token) const;
  /// By the bytes of a word: raw bytes or the spelling, as constructed.
  std::int32_t find(std::string_view word) const { return words_.find(word); }
  bool has_id(std::int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < tokens_.size() &&
           tokens_[static_cast<std::size_t>(id)].known;
  }
  std::string_view id_to_token(std::int32_t id) const;

  std::int64_t size() const { return static_cast<std::int64_t>(words_.size() + others_.size()); }
  std::int32_t largest_id() const { return static_cast<std::int32_t>(tokens_.size()) - 1; }

 private:
  struct Token {
    std::uint32_t begin = 0;
    std::uint32_t length = 0;
    bool known = false;
  };

  void add(std::string_view token, std::int32_t id);

  bool raw_bytes_;
  StringMap words_;
  StringMap others_;  ///< raw_bytes: tokens with characters outside the byte-level alphabet
  std::string spelling_;
  std::vector<Token> tokens_;  ///< by id
};

}  // namespace espalier::text
