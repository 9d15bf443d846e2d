#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/added_vocabulary/token_trie.h"
#include "text/json_node.h"
#include "text/model/model.h"
#include "text/normalizer/normalizer.h"
#include "text/pre_tokenized_text.h"

namespace espalier::text {

/// A token outside the model, found in a text before the model sees it.
struct AddedToken {
  std::string content;
  bool single_word = false;  ///< only where no word character stands beside it
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;
  bool normalized = false;  ///< is looked for in the normalized text, in its normalized form
  bool special = false;     ///< left out by decode(skip_special_tokens)
  std::string decoded;      ///< what the decoder gets to see
};

/// The section `added_tokens` of tokenizer.json.
class AddedVocabulary {
 public:
  /// `normalizer` may be null. The ids come from the model for tokens that it knows, and count on
  /// from its size for others, as in the reference.
  AddedVocabulary(const JsonNode& section, const Model& model, const Normalizer* normalizer);
  AddedVocabulary() = default;

  const AddedToken* find(std::int32_t id) const;
  /// -1 for an unknown token.
  std::int32_t token_to_id(const std::string& token) const;
  bool is_special(const std::string& content) const { return special_.contains(content); }
  std::int32_t largest_id() const { return largest_id_; }

  /// Cuts added tokens out of the text and normalizes the rest.
  void extract_and_normalize(PreTokenizedText& text, const Normalizer* normalizer) const;

 private:
  void extract(PreTokenizedText& text, const TokenTrie& trie) const;
  void extract(const Piece& piece, const TokenTrie& trie, std::vector<Piece>& out) const;

  std::unordered_map<std::int32_t, AddedToken> tokens_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::unordered_set<std::string> special_;
  TokenTrie plain_trie_;
  TokenTrie normalized_trie_;
  std::int32_t largest_id_ = -1;
};

}  // namespace espalier::text
