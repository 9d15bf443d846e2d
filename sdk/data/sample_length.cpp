#include "espalier/data/sample_length.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/sdk/batch.h"

namespace espalier {

void check_sample_length(const SampleLengthConfig& config) {
  const bool pads = config.padding == "max_length";
  if (!config.seq_length && (pads || config.truncation)) {
    throw_bad_input(
        std::string(pads ? "padding = \"max_length\"" : "truncation = true") + " needs a length",
        {}, "seq_length = ...", "the dataset's section of the recipe",
        "add seq_length, or leave this key out: batches are padded to their longest sample anyway");
  }
  if (config.seq_length && !pads && !config.truncation) {
    throw_bad_input(
        "seq_length does nothing here", "seq_length = " + std::to_string(*config.seq_length),
        "truncation = true to cut samples, padding = \"max_length\" to pad them, or both",
        "the dataset's section of the recipe", "add one of the two, or leave seq_length out");
  }
}

void apply_sample_length(const SampleLengthConfig& config, std::int64_t pad_id, Sample& sample) {
  if (!config.seq_length) return;
  const auto length = static_cast<std::size_t>(*config.seq_length);
  if (config.truncation && sample.input_ids.size() > length) {
    sample.input_ids.resize(length);
    sample.labels.resize(length);
  }
  if (config.padding == "max_length" && sample.input_ids.size() < length) {
    sample.attention_mask.assign(sample.input_ids.size(), 1);
    sample.attention_mask.resize(length, 0);
    sample.input_ids.resize(length, pad_id);
    sample.labels.resize(length, kIgnoredLabel);
  }
}

std::int64_t padding_id(const Tokenizer& tokenizer) {
  if (tokenizer.pad_id() >= 0) return tokenizer.pad_id();
  return std::max(tokenizer.eos_id(), 0);
}

std::shared_ptr<const Tokenizer> require_tokenizer(const DatasetContext& context) {
  if (context.tokenizer != nullptr) return context.tokenizer;
  throw_bad_input("the model has no tokenizer, and this dataset is made of text", {},
                  "a tokenizer.json", context.model_folder,
                  "copy the tokenizer of the model into its folder");
}

}  // namespace espalier
