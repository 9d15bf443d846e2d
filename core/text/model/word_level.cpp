#include "text/model/model.h"
#include "text/model/vocabulary.h"

namespace espalier::text {
namespace {

/// Whole words, or the unknown token.
class WordLevel final : public Model {
 public:
  explicit WordLevel(const JsonNode& section)
      : where_(section.where()),
        unk_token_(section.at("unk_token").as_string()),
        vocabulary_(section.at("vocab"), false),
        unk_id_(vocabulary_.token_to_id(unk_token_)) {}

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<ModelScratch>();
  }

  void tokenize(std::string_view word, ModelScratch&,
                std::vector<TokenSpan>& tokens) const override {
    const std::int32_t known = vocabulary_.find(word);
    if (known < 0 && unk_id_ < 0)
      throw_bad_input("a text has an unknown word, and the unknown token is not in the vocabulary",
                      unk_token_, "an entry of vocab", where_ + ".unk_token");
    tokens.push_back({known < 0 ? unk_id_ : known, static_cast<std::uint32_t>(word.size())});
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
  std::string where_;
  std::string unk_token_;
  Vocabulary vocabulary_;
  std::int32_t unk_id_;
};

}  // namespace

std::unique_ptr<Model> make_word_level(const JsonNode& section) {
  return std::make_unique<WordLevel>(section);
}

}  // namespace espalier::text
