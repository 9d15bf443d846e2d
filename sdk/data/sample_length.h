#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// The keys by which a dataset cuts and pads its samples; for configs to derive from.
struct SampleLengthConfig {
  std::optional<std::int64_t> seq_length;
  std::string padding = "longest";
  bool truncation = false;
};

template <std::derived_from<SampleLengthConfig> Config>
ConfigSchema<Config> with_sample_length(ConfigSchema<Config> schema) {
  return std::move(
      schema
          .field("seq_length", &SampleLengthConfig::seq_length,
                 "tokens that samples are padded or cut to, by the next two keys")
          .more_than(0)
          .field(
              "padding", &SampleLengthConfig::padding,
              "longest: each batch to its longest sample; max_length: every sample to seq_length")
          .one_of({"longest", "max_length"})
          .field("truncation", &SampleLengthConfig::truncation,
                 "leave out the tokens after seq_length"));
}

/// Throws Error(kBadInput) for keys that need a seq_length, or a seq_length that would do nothing.
ESPALIER_API void check_sample_length(const SampleLengthConfig& config);

/// Cuts and pads on the right: labels -100, attention mask 0.
ESPALIER_API void apply_sample_length(const SampleLengthConfig& config, std::int64_t pad_id,
                                      Sample& sample);

/// The tokenizer's padding token, or its end of text where it has none, or 0: padding is masked, so
/// any id will do.
ESPALIER_API std::int64_t padding_id(const Tokenizer& tokenizer);

/// The tokenizer of the model. Throws Error(kBadInput) where the model folder has none.
ESPALIER_API std::shared_ptr<const Tokenizer> require_tokenizer(const DatasetContext& context);

}  // namespace espalier
