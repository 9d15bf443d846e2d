// WordPiece (Schuster and Nakajima, 2012) as in BERT: from left to right the longest entry that
// fits, or one unknown token for the whole word.
#include "espalier/base/utf8.h"
#include "text/model/byte_trie.h"
#include "text/model/model.h"
#include "text/model/vocabulary.h"
#include "text/model/word_cache.h"

namespace espalier::text {
namespace {

struct WordPieceScratch final : ModelScratch {
  WordCache cache;
  std::vector<TokenSpan> tokens;
};

class WordPiece final : public Model {
 public:
  explicit WordPiece(const JsonNode& section)
      : where_(section.where()),
        unk_token_(section.at("unk_token").as_string()),
        max_chars_(section.at("max_input_chars_per_word").as_int(0, INT64_MAX)),
        vocabulary_(section.at("vocab"), false) {
    const std::string prefix = section.at("continuing_subword_prefix").as_string();
    unk_id_ = vocabulary_.token_to_id(unk_token_);
    std::vector<std::pair<std::string_view, std::int32_t>> starts;
    std::vector<std::pair<std::string_view, std::int32_t>> continuations;
    for (std::int32_t id = 0; id <= vocabulary_.largest_id(); ++id) {
      if (!vocabulary_.has_id(id)) continue;
      const std::string_view token = vocabulary_.id_to_token(id);
      starts.emplace_back(token, id);
      if (token.starts_with(prefix)) continuations.emplace_back(token.substr(prefix.size()), id);
    }
    starts_ = ByteTrie(std::move(starts));
    continuations_ = ByteTrie(std::move(continuations));
  }

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<WordPieceScratch>();
  }

  void tokenize(std::string_view word, ModelScratch& scratch,
                std::vector<TokenSpan>& tokens) const override {
    auto& own = static_cast<WordPieceScratch&>(scratch);
    const std::uint64_t hash = hash_bytes(word);
    if (const auto known = own.cache.find(word, hash); known.data() != nullptr) {
      tokens.insert(tokens.end(), known.begin(), known.end());
      return;
    }
    own.tokens.clear();
    const bool too_long = word.size() > static_cast<std::uint64_t>(max_chars_) &&
                          static_cast<std::int64_t>(count_code_points(word)) > max_chars_;
    if (too_long || !cut(word, own.tokens)) {
      if (unk_id_ < 0)
        throw_bad_input(
            "a text has an unknown word, and the unknown token is not in the vocabulary",
            unk_token_, "an entry of vocab", where_ + ".unk_token");
      own.tokens.assign(1, {unk_id_, static_cast<std::uint32_t>(word.size())});
    }
    own.cache.insert(word, hash, own.tokens);
    tokens.insert(tokens.end(), own.tokens.begin(), own.tokens.end());
  }

  std::int32_t token_to_id(std::string_view token) const override {
    return vocabulary_.token_to_id(token);
  }
  std::string_view id_to_token(std::int32_t id) const override {
    return vocabulary_.id_to_token(id);
  }
  bool has_id(std::int32_t id) const override { return vocabulary_.has_id(id); }
  std::int64_t size() const override { return vocabulary_.size(); }
  std::int32_t largest_id() const override { return vocabulary_.largest_id(); }

 private:
  bool cut(std::string_view word, std::vector<TokenSpan>& tokens) const {
    for (std::size_t at = 0; at < word.size();) {
      const auto [length, id] =
          (at == 0 ? starts_ : continuations_).longest_prefix(word.substr(at));
      if (length == 0) return false;
      tokens.push_back({id, static_cast<std::uint32_t>(length)});
      at += length;
    }
    return true;
  }

  std::string where_;
  std::string unk_token_;
  std::int64_t max_chars_;
  Vocabulary vocabulary_;
  std::int32_t unk_id_ = -1;
  ByteTrie starts_;
  ByteTrie continuations_;  ///< without the prefix
};

}  // namespace

std::unique_ptr<Model> make_word_piece(const JsonNode& section) {
  return std::make_unique<WordPiece>(section);
}

}  // namespace espalier::text
