#pragma once

#include <string>
#include <vector>

#include "espalier/base/config_schema.h"
#include "espalier/sdk/objective.h"

namespace espalier {

struct KtoConfig {
  double beta = 0.1;
  std::string loss_type = "kto";
  double desirable_weight = 1.0;
  double undesirable_weight = 1.0;

  static ConfigSchema<KtoConfig> schema();
};

/// Kahneman-Tversky optimisation (Ethayarajh et al. 2024): answers are good or bad, one by one.
/// With r the log probability of an answer over that of the reference and z the KL divergence
/// between the two, a good one costs 1 - sigmoid(beta (r - z)), a bad one 1 - sigmoid(beta (z -
/// r)). z is estimated as TRL does it: the mean of r over the prompts of the micro-batch, each with
/// the answer of the one before, at least 0 and without gradient. A batch says in `desirable`
/// [documents] which answers are good.
class Kto final : public Objective {
 public:
  using Config = KtoConfig;
  explicit Kto(const KtoConfig& config) : config_(config) {}

  double weight(const Batch& batch) const override;
  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override;

 private:
  at::Tensor divergence(const ObjectiveContext& context, const Batch& batch) const;

  KtoConfig config_;
  bool saw_several_ = false;  ///< a micro-batch of two or more
};

/// The prompts of a batch, each with the answer of the one before it; what begins with the first
/// label of a document is its answer. Documents are cut to `max_length` tokens unless that is 0.
Batch mismatched(const Batch& batch, std::int64_t max_length);

}  // namespace espalier
