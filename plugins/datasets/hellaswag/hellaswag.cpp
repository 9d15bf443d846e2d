// Contexts and the ending that follows: HellaSwag, and data in its layout.
#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/prompt_answer.h"
#include "espalier/data/record_dataset.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct HellaSwagConfig : RecordDatasetConfig {
  static ConfigSchema<HellaSwagConfig> schema() { return record_dataset_schema<HellaSwagConfig>(); }
};

/// Context and ending are tokenised apart, each with the special tokens that the tokenizer adds,
/// but for those where they meet. Labels are shifted; the ending is learnt.
class HellaSwag final : public RecordDataset {
 public:
  using Config = HellaSwagConfig;
  explicit HellaSwag(const Config& config) : RecordDataset(config) {}

 private:
  void prepare(const DatasetContext& context) override { tokenizer_ = context.tokenizer; }
  void check(const Value& record) const override {
    require_text(record, "ctx");
    right_ending(record);
  }

  Sample encode(const Value& record) const override {
    const Ids context = tokens(require_text(record, "ctx"), true, false);
    const Ids ending = tokens(right_ending(record), false, true);
    Sample sample;
    sample.labels_shifted = true;
    sample.input_ids.assign(context.begin(), context.end());
    sample.input_ids.insert(sample.input_ids.end(), ending.begin(), ending.end());
    sample.labels.assign(context.empty() ? 0 : context.size() - 1, kIgnoredLabel);
    // Without a context nothing precedes the first token of the ending.
    sample.labels.insert(sample.labels.end(), ending.begin() + (context.empty() ? 1 : 0),
                         ending.end());
    sample.labels.push_back(kIgnoredLabel);
    return sample;
  }

  using Ids = std::vector<std::int32_t>;

  /// Ids with the special tokens in front or behind, where asked for.
  Ids tokens(const std::string& text, bool in_front, bool behind) const {
    Ids bare = tokenizer_->encode(text, false);
    const Ids full = tokenizer_->encode(text, true);
    const auto begin = std::search(full.begin(), full.end(), bare.begin(), bare.end());
    if (begin == full.end()) return bare;
    const auto end = begin + static_cast<std::ptrdiff_t>(bare.size());
    return {in_front ? full.begin() : begin, behind ? full.end() : end};
  }

  static const std::string& right_ending(const Value& record) {
    const Value& endings = require_member(record, "endings");
    if (!endings.is_array() || endings.as_array().empty()) {
      throw_bad_input("'endings' of a record is no list of texts",
                      std::string(type_phrase(endings.type())), "a list of texts", {});
    }
    const Value& label = require_member(record, "label");
    const auto count = static_cast<std::int64_t>(endings.as_array().size());
    const std::int64_t number = number_of(label);
    if (number < 0 || number >= count) {
      throw_bad_input("'label' of a record is the number of no ending",
                      label.is_string() ? "'" + label.as_string() + "'" : std::to_string(number),
                      "0 to " + std::to_string(count - 1), {},
                      "the test split of HellaSwag has no labels; use train or validation");
    }
    const Value& ending = endings.as_array()[static_cast<std::size_t>(number)];
    if (!ending.is_string() || stripped(ending.as_string()).empty()) {
      throw_bad_input("the right ending of a record is not text or empty",
                      std::string(type_phrase(ending.type())), "a text", {});
    }
    return ending.as_string();
  }

  /// Published files have the number as text. -1: it is none.
  static std::int64_t number_of(const Value& label) {
    if (label.is_int()) return label.as_int();
    const bool digits = label.is_string() && !label.as_string().empty() &&
                        label.as_string().size() < 9 &&
                        label.as_string().find_first_not_of("0123456789") == std::string::npos;
    return digits ? std::stoll(label.as_string()) : -1;
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar.add<Dataset, HellaSwag>("hellaswag", "contexts and their right endings")
      .property("recognises", parse_json(R"([{"fields": ["ctx", "endings", "label"]}])"))
      .alias("nemo_automodel.components.datasets.llm.hellaswag.HellaSwag", parse_json(R"({
          "path_or_dataset": "path", "num_samples_limit": "limit_dataset_samples",
          "pad_to_max_length": {"note": "batches are padded to their longest sample"}})")
                                                                               .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.hellaswag", "0.1.0", espalier::register_components)
