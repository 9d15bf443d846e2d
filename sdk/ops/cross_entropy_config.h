#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <utility>

#include "espalier/base/config_schema.h"
#include "espalier/ops/cross_entropy.h"
#include "espalier/sdk/batch.h"

namespace espalier::ops {

/// The keys that all cross entropies share; for configs of losses to derive from.
struct CrossEntropyConfig {
  double label_smoothing = 0.0;
  double z_loss = 0.0;
  double soft_cap = 0.0;
  std::int64_t ignore_index = kIgnoredLabel;

  CrossEntropyOptions options() const { return {label_smoothing, z_loss, soft_cap}; }
  /// Labels that count, the others -100. labels [rows] int64.
  at::Tensor counted(const at::Tensor& labels) const {
    return ignore_index == kIgnoredLabel
               ? labels
               : labels.masked_fill(labels.eq(ignore_index), kIgnoredLabel);
  }
};

template <std::derived_from<CrossEntropyConfig> Config>
ConfigSchema<Config> cross_entropy_schema() {
  return std::move(ConfigSchema<Config>()
                       .field("label_smoothing", &CrossEntropyConfig::label_smoothing,
                              "share of the target spread over all tokens")
                       .at_least(0)
                       .less_than(1)
                       .field("z_loss", &CrossEntropyConfig::z_loss,
                              "weight of the squared log of the normaliser")
                       .at_least(0)
                       .field("soft_cap", &CrossEntropyConfig::soft_cap,
                              "logits become cap * tanh(logits / cap) first; 0 is off")
                       .at_least(0)
                       .field("ignore_index", &CrossEntropyConfig::ignore_index,
                              "a label that is not learnt, besides -100"));
}

}  // namespace espalier::ops
