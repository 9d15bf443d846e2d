// Words with a tag each (named entities, parts of speech). The tag stands at the first token of its
// word; the others are ignored.
#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/data/record_dataset.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct TaggedWordsConfig : RecordDatasetConfig {
  std::string words_column = "tokens";
  std::string tags_column = "tags";
  std::vector<std::string> tag_names;

  static ConfigSchema<TaggedWordsConfig> schema() {
    return std::move(record_dataset_schema<TaggedWordsConfig>()
                         .field("words_column", &TaggedWordsConfig::words_column,
                                "column with the list of words")
                         .field("tags_column", &TaggedWordsConfig::tags_column,
                                "column with the list of their tags")
                         .field("tag_names", &TaggedWordsConfig::tag_names,
                                "names of the tags in order, where the column has names"));
  }
};

const Array& list_of(const Value& record, const std::string& column) {
  const Value* value = record.find(column);
  if (value != nullptr && value->is_array()) return value->as_array();
  throw_bad_input("column '" + column + "' is no list",
                  value == nullptr ? "no such column" : std::string(type_phrase(value->type())),
                  "a list", {});
}

class TaggedWords final : public RecordDataset {
 public:
  using Config = TaggedWordsConfig;
  explicit TaggedWords(const TaggedWordsConfig& config) : RecordDataset(config), config_(config) {}

 private:
  void prepare(const DatasetContext& context) override { tokenizer_ = require_tokenizer(context); }

  void check(const Value& record) const override {
    const Array& words = list_of(record, config_.words_column);
    const Array& tags = list_of(record, config_.tags_column);
    if (words.size() != tags.size()) {
      throw_bad_input(
          "a record has not one tag for each word",
          std::to_string(words.size()) + " words, " + std::to_string(tags.size()) + " tags",
          "lists of equal length", {});
    }
    for (const Value& word : words) {
      if (!word.is_string()) throw_bad_input("a word is no text", dump_json(word), "a text", {});
    }
    for (const Value& tag : tags) tag_of(tag);
  }

  Sample encode(const Value& record) const override {
    const Array& words = list_of(record, config_.words_column);
    const Array& tags = list_of(record, config_.tags_column);
    Sample sample;
    sample.labels_shifted = true;
    for (std::size_t i = 0; i < words.size(); ++i) {
      // Words after the first follow a space, which most vocabularies hold inside their tokens.
      const std::string text = (i == 0 ? "" : " ") + words[i].as_string();
      const std::vector<std::int32_t> ids = tokenizer_->encode(text, false);
      for (std::size_t j = 0; j < ids.size(); ++j) {
        sample.input_ids.push_back(ids[j]);
        sample.labels.push_back(j == 0 ? tag_of(tags[i]) : kIgnoredLabel);
      }
    }
    if (sample.input_ids.empty()) {
      sample.input_ids.push_back(std::max<std::int64_t>(0, tokenizer_->eos_id()));
      sample.labels.push_back(kIgnoredLabel);
    }
    return sample;
  }

  std::int64_t tag_of(const Value& tag) const {
    if (tag.is_int() && (tag.as_int() >= 0 || tag.as_int() == kIgnoredLabel)) return tag.as_int();
    const std::vector<std::string>& names = config_.tag_names;
    if (tag.is_string()) {
      const auto found = std::find(names.begin(), names.end(), tag.as_string());
      if (found != names.end()) return found - names.begin();
    }
    throw_bad_input("there is no such tag", dump_json(tag),
                    names.empty() ? "a number from 0, or -100" : "one of " + join_names(names), {},
                    names.empty() ? "name the tags in order by tag_names" : "");
  }

  TaggedWordsConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, TaggedWords>("tagged_words", "words with a tag each, from any file of records")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["tokens", "tags"], "label": "tags", "settings": {"path": "{path}", "tag_names": "{labels}"}, "sections": {"model": {"task": "token_classification"}}},
       {"fields": ["tokens", "ner_tags"], "label": "ner_tags", "settings": {"path": "{path}", "words_column": "tokens", "tags_column": "ner_tags", "tag_names": "{labels}"}, "sections": {"model": {"task": "token_classification"}}}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.tagged_words", "0.1.0", espalier::register_components)
