// Texts that belong together (question and passage, two wordings of one thought), with texts that
// do not where a record has them. A sample is one document a text, without labels.
#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/record_dataset.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct TextPairsConfig : RecordDatasetConfig {
  std::string query_column = "query";
  std::string positive_column = "positive";
  std::optional<std::string> negatives_column;
  std::int64_t num_negatives = 1;
  std::int64_t max_length = 512;
  std::string query_prefix;
  std::string passage_prefix;

  static ConfigSchema<TextPairsConfig> schema() {
    return std::move(
        with_record_files(ConfigSchema<TextPairsConfig>())
            .field("query_column", &TextPairsConfig::query_column, "column of the first text")
            .field("positive_column", &TextPairsConfig::positive_column,
                   "column of the text that belongs to it")
            .field("negatives_column", &TextPairsConfig::negatives_column,
                   "column with a text, or a list of texts, that do not")
            .field("num_negatives", &TextPairsConfig::num_negatives,
                   "how many of them are used; each record needs so many")
            .at_least(1)
            .field("max_length", &TextPairsConfig::max_length, "tokens that each text is cut to")
            .at_least(1)
            .field("query_prefix", &TextPairsConfig::query_prefix, "put before the first text")
            .field("passage_prefix", &TextPairsConfig::passage_prefix, "put before the others"));
  }
};

const std::string& text_in(const Value* value, const std::string& column) {
  if (value != nullptr && value->is_string()) return value->as_string();
  throw_bad_input("column '" + column + "' is no text",
                  value == nullptr ? "no such column" : std::string(type_phrase(value->type())),
                  "a text", {});
}

class TextPairs final : public RecordDataset {
 public:
  using Config = TextPairsConfig;
  explicit TextPairs(const TextPairsConfig& config) : RecordDataset(config), config_(config) {}

 private:
  void prepare(const DatasetContext& context) override { tokenizer_ = require_tokenizer(context); }
  void check(const Value& record) const override { texts_of(record); }

  Sample encode(const Value& record) const override {
    Sample sample;
    for (const std::string& text : texts_of(record)) {
      std::vector<std::int32_t> ids = tokenizer_->encode(text, true);
      if (ids.empty()) ids.push_back(std::max(0, tokenizer_->eos_id()));
      if (static_cast<std::int64_t>(ids.size()) > config_.max_length)
        ids.resize(static_cast<std::size_t>(config_.max_length));
      sample.document_starts.push_back(static_cast<std::int64_t>(sample.input_ids.size()));
      sample.input_ids.insert(sample.input_ids.end(), ids.begin(), ids.end());
    }
    sample.labels.assign(sample.input_ids.size(), kIgnoredLabel);
    return sample;
  }

  std::vector<std::string> texts_of(const Value& record) const {
    std::vector<std::string> texts = {
        config_.query_prefix + text_in(record.find(config_.query_column), config_.query_column),
        config_.passage_prefix +
            text_in(record.find(config_.positive_column), config_.positive_column)};
    if (!config_.negatives_column) return texts;
    const std::string& column = *config_.negatives_column;
    const Value* value = record.find(column);
    const Array negatives = value != nullptr && value->is_array()
                                ? value->as_array()
                                : Array{Value(text_in(value, column))};
    if (static_cast<std::int64_t>(negatives.size()) < config_.num_negatives) {
      throw_bad_input("a record has too few negatives", std::to_string(negatives.size()),
                      std::to_string(config_.num_negatives), {}, "set num_negatives lower");
    }
    for (std::int64_t i = 0; i < config_.num_negatives; ++i)
      texts.push_back(config_.passage_prefix +
                      text_in(&negatives[static_cast<std::size_t>(i)], column));
    return texts;
  }

  TextPairsConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, TextPairs>(
          "text_pairs", "texts that belong together, with or without negatives, for embeddings")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["anchor", "positive"], "settings": {"path": "{path}", "query_column": "anchor"}, "sections": {"model": {"task": "embedding"}, "objective": {"type": "contrastive"}}},
       {"fields": ["query", "positive"], "sections": {"model": {"task": "embedding"}, "objective": {"type": "contrastive"}}}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.text_pairs", "0.1.0", espalier::register_components)
