// Texts, or pairs of texts, with a label each, as in GLUE. The label stands at the last token,
// where a model for sequence classification reads its scores.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/data/record_dataset.h"
#include "espalier/data/target_label.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct TextClassificationConfig : RecordDatasetConfig {
  std::string text_column = "text";
  std::optional<std::string> pair_column;
  std::string label_column = "label";
  std::vector<std::string> label_names;
  std::string target = "class";

  static ConfigSchema<TextClassificationConfig> schema() {
    return std::move(
        record_dataset_schema<TextClassificationConfig>()
            .field("text_column", &TextClassificationConfig::text_column, "column of the text")
            .field("pair_column", &TextClassificationConfig::pair_column,
                   "column of a second text that follows it")
            .field("label_column", &TextClassificationConfig::label_column, "column of the label")
            .field("label_names", &TextClassificationConfig::label_names,
                   "names of the classes in order, where the column has names; default: those "
                   "of label2id in the model's config.json, else labels are numbers")
            .field("target", &TextClassificationConfig::target,
                   "class: one of several; real: a number (loss mean_squared_error); classes: a "
                   "list of several at once (loss binary_cross_entropy)")
            .one_of({"class", "real", "classes"}));
  }
};

/// Names of the classes by `label2id` of config.json, in order; empty when it has none, or the
/// names that transformers gives where nobody did.
std::vector<std::string> names_of_model(const std::string& folder) {
  std::vector<std::string> names;
  const std::string path = folder + "/config.json";
  const Value config =
      read_json_file(path, {.allow_duplicate_keys = true, .allow_nonfinite = true});
  const Value* ids = config.find("label2id");
  if (ids == nullptr || !ids->is_table()) return names;
  names.resize(ids->as_table().size());
  for (const auto& [name, id] : ids->as_table()) {
    const bool fits =
        id.is_int() && id.as_int() >= 0 && id.as_int() < static_cast<std::int64_t>(names.size());
    if (!fits || name.starts_with("LABEL_")) return {};
    names[static_cast<std::size_t>(id.as_int())] = name;
  }
  return names;
}

const Value& column_of(const Value& record, const std::string& column) {
  if (const Value* value = record.find(column)) return *value;
  std::vector<std::string> names;
  for (const auto& [key, value] : record.as_table()) names.push_back(key);
  throw_bad_input("a record has no column '" + column + "'", join_names(names), column, {},
                  did_you_mean(column, names));
}

const std::string& text_of(const Value& record, const std::string& column) {
  const Value& value = column_of(record, column);
  if (value.is_string()) return value.as_string();
  throw_bad_input("column '" + column + "' is no text", std::string(type_phrase(value.type())),
                  "a text", {});
}

/// Tables without types (TSV, CSV) hold numbers as text.
std::optional<double> number_of(const Value& value) {
  if (value.is_number()) return value.as_float();
  if (!value.is_string()) return std::nullopt;
  const std::string& text = value.as_string();
  double number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

class TextClassification final : public RecordDataset {
 public:
  using Config = TextClassificationConfig;
  explicit TextClassification(const TextClassificationConfig& config)
      : RecordDataset(config), config_(config) {}

 private:
  void prepare(const DatasetContext& context) override {
    tokenizer_ = require_tokenizer(context);
    names_ = config_.label_names;
    if (names_.empty() && config_.target != "real") names_ = names_of_model(context.model_folder);
  }

  void check(const Value& record) const override {
    text_of(record, config_.text_column);
    if (config_.pair_column) text_of(record, *config_.pair_column);
    label_of(record);
  }

  Sample encode(const Value& record) const override {
    const std::string& text = text_of(record, config_.text_column);
    const std::vector<std::int32_t> ids =
        config_.pair_column
            ? tokenizer_->encode_pair(text, text_of(record, *config_.pair_column), true).ids
            : tokenizer_->encode(text, true);
    Sample sample;
    sample.input_ids.assign(ids.begin(), ids.end());
    // A text of no tokens is still a text, and has a place for its label.
    if (sample.input_ids.empty())
      sample.input_ids.push_back(std::max<std::int64_t>(0, tokenizer_->eos_id()));
    if (config_.truncation && config_.seq_length &&
        static_cast<std::int64_t>(sample.input_ids.size()) > *config_.seq_length)
      sample.input_ids.resize(static_cast<std::size_t>(*config_.seq_length));
    sample.labels.assign(sample.input_ids.size(), kIgnoredLabel);
    sample.labels.back() = label_of(record);
    sample.labels_shifted = true;
    return sample;
  }

  std::int64_t label_of(const Value& record) const {
    const Value& value = column_of(record, config_.label_column);
    if (config_.target == "real") return real_of(value);
    if (config_.target == "class") return class_of(value);
    if (!value.is_array()) {
      throw_bad_input("column '" + config_.label_column + "' is no list of classes",
                      std::string(type_phrase(value.type())), "a list", {},
                      "for one class a text, set target = \"class\"");
    }
    std::int64_t bits = 0;
    for (const Value& item : value.as_array()) {
      const std::int64_t index = class_of(item);
      if (index >= kMostClassesAtOnce)
        throw_bad_input("a class is too far back", std::to_string(index),
                        "below " + std::to_string(kMostClassesAtOnce), {});
      bits |= std::int64_t{1} << index;
    }
    return bits;
  }

  std::int64_t real_of(const Value& value) const {
    const std::optional<double> number = number_of(value);
    if (number && std::isfinite(*number)) return label_of_real(static_cast<float>(*number));
    throw_bad_input("column '" + config_.label_column + "' is no number", dump_json(value),
                    "a finite number", {});
  }

  std::int64_t class_of(const Value& value) const {
    if (value.is_string()) {
      const auto found = std::find(names_.begin(), names_.end(), value.as_string());
      if (found != names_.end()) return found - names_.begin();
    }
    const std::optional<double> number = number_of(value);
    const bool whole = number && *number >= 0 && *number == std::floor(*number);
    const bool known = names_.empty() || (whole && *number < static_cast<double>(names_.size()));
    if (whole && known) return static_cast<std::int64_t>(*number);
    throw_bad_input("the label is no class", dump_json(value),
                    names_.empty() ? "a number from 0" : "one of " + join_names(names_), {},
                    names_.empty()
                        ? "name the classes in order by label_names"
                        : did_you_mean(value.is_string() ? value.as_string() : "", names_));
  }

  TextClassificationConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<std::string> names_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, TextClassification>(
          "text_classification",
          "texts or pairs of texts with a label each, from any file of records")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["text", "label"], "label": "label", "settings": {"path": "{path}", "label_names": "{labels}"}, "sections": {"model": {"task": "sequence_classification"}}}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.text_classification", "0.1.0", espalier::register_components)
