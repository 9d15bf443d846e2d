#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"

namespace espalier::text {

/// A token and how many bytes of the word it covers.
struct TokenSpan {
  std::int32_t id = 0;
  std::uint32_t length : 31 = 0;
  /// The next token covers the same bytes: both spell the same characters byte by byte.
  std::uint32_t stays : 1 = 0;
};

/// Token `id` in place of two neighbours.
inline TokenSpan merged(std::int32_t id, TokenSpan left, TokenSpan right) {
  return {id, std::uint32_t{left.length} + std::uint32_t{right.length}};
}

/// What a model keeps between words for speed; one thread uses it at a time.
class ModelScratch {
 public:
  ModelScratch() = default;
  ModelScratch(const ModelScratch&) = delete;
  ModelScratch& operator=(const ModelScratch&) = delete;
  virtual ~ModelScratch() = default;
};

/// Cuts words into vocabulary entries. Immutable; thread safe.
class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  virtual ~Model() = default;

  virtual std::unique_ptr<ModelScratch> make_scratch() const = 0;
  /// Appends the tokens of `word`, which is not empty. With takes_raw_bytes(), a word is given as
  /// the bytes that its byte-level characters stand for, and lengths count those.
  virtual void tokenize(std::string_view word, ModelScratch& scratch,
                        std::vector<TokenSpan>& tokens) const = 0;
  virtual bool takes_raw_bytes() const { return false; }
  /// What Encoding::tokens shows for a token that covers `word`.
  virtual std::string_view token_text(std::int32_t id, std::string_view word) const {
    (void)word;
    return id_to_token(id);
  }

  /// -1 for an unknown token.
  virtual std::int32_t token_to_id(std::string_view token) const = 0;
  /// Empty for an unknown id.
  virtual std::string_view id_to_token(std::int32_t id) const = 0;
  virtual bool has_id(std::int32_t id) const = 0;
  /// Number of entries.
  virtual std::int64_t size() const = 0;
  virtual std::int32_t largest_id() const = 0;
};

/// From the section `model` of tokenizer.json. With `byte_level_words`, all words come from a
/// byte-level pre-tokenizer, and a model may choose to take raw bytes.
std::unique_ptr<Model> make_model(const JsonNode& section, bool byte_level_words);

std::unique_ptr<Model> make_bpe(const JsonNode& section, bool byte_level_words);
std::unique_ptr<Model> make_unigram(const JsonNode& section);
std::unique_ptr<Model> make_word_piece(const JsonNode& section);
std::unique_ptr<Model> make_word_level(const JsonNode& section);

}  // namespace espalier::text
