#pragma once

#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "espalier/nn/moe_spec.h"

namespace espalier::nn {

/// What a family takes where config.json has no such key.
struct MoeDefaults {
  std::int64_t num_experts = 8;
  std::int64_t num_experts_per_tok = 2;
};

/// The keys that mixtures of experts share in config.json: `num_local_experts` under any of its
/// names, `num_experts_per_tok`, and the load-balancing loss, which transformers adds only when
/// `output_router_logits` is set. A family sets the rest. Throws Error(kBadInput) naming the key.
ESPALIER_API MoeSpec moe_spec_from_config(const Value& config, const MoeDefaults& defaults);

/// Layers with a mixture by Qwen's rule: each `decoder_sparse_step`-th, without `mlp_only_layers`.
ESPALIER_API std::vector<bool> sparse_layers_from_config(const Value& config,
                                                         std::int64_t num_layers);

/// Throws Error(kBadInput) unless the experts fall into equal groups of two or more, of which
/// `topk_group` hold `num_experts_per_tok`.
ESPALIER_API void check_groups(const RouterSpec& router, const Value& config);

/// Why weights of this config can't be read: they are quantised. Empty when they are not.
ESPALIER_API std::string quantised_reason(const Value& config);

}  // namespace espalier::nn
