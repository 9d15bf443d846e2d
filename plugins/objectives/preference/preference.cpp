// Learning from pairs of answers. DPO with its variants compares with the model before training:
// the same weights with the adapter switched off, so no second model is in memory. SimPO (Meng et
// al. 2024) and ORPO (Hong et al. 2024) need no reference.
#include "espalier/ops/preference.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/zeros_like.h>

#include "answer_scores.h"
#include "espalier/base/error.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/plugin.h"
#include "kto.h"

namespace espalier {
namespace {

ops::PreferenceShape shape_of(const std::string& name) {
  if (name == "hinge") return ops::PreferenceShape::kHinge;
  return name == "ipo" ? ops::PreferenceShape::kIpo : ops::PreferenceShape::kSigmoid;
}

/// Sums over the pairs of a micro-batch; the trainer divides by the pairs of the step.
class PairObjective : public Objective {
 public:
  double weight(const Batch& batch) const override {
    return static_cast<double>(count_pairs(batch));
  }

 protected:
  static ObjectiveTerm measured(const char* name, const at::Tensor& values, double pairs) {
    ObjectiveTerm term{name, values.detach().to(at::kFloat).sum(), pairs};
    term.measured_only = true;
    return term;
  }
  /// The loss, and what tells whether it works: how often the chosen answer has the larger reward,
  /// and by how much.
  static std::vector<ObjectiveTerm> terms(const at::Tensor& losses, const at::Tensor& chosen,
                                          const at::Tensor& rejected) {
    const auto pairs = static_cast<double>(losses.size(0));
    return {{"loss", losses.sum(), pairs},
            measured("reward_accuracy", chosen.gt(rejected), pairs),
            measured("reward_margin", chosen - rejected, pairs)};
  }
};

struct DpoConfig {
  double beta = 0.1;
  std::string loss_type = "sigmoid";
  double label_smoothing = 0.0;
  bool reference_free = false;

  static ConfigSchema<DpoConfig> schema() {
    return ConfigSchema<DpoConfig>()
        .field("beta", &DpoConfig::beta, "how dear it is to leave the reference")
        .more_than(0)
        .field("loss_type", &DpoConfig::loss_type, "sigmoid (DPO), hinge (SLiC) or ipo")
        .one_of({"sigmoid", "hinge", "ipo"})
        .field("label_smoothing", &DpoConfig::label_smoothing,
               "share of pairs that are taken to be the wrong way round; for sigmoid")
        .at_least(0)
        .less_than(0.5)
        .field("reference_free", &DpoConfig::reference_free,
               "the reference finds all answers equally likely");
  }
};

class Dpo final : public PairObjective {
 public:
  using Config = DpoConfig;
  explicit Dpo(const DpoConfig& config)
      : config_(config),
        options_{shape_of(config.loss_type), config.beta, config.label_smoothing} {}

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    if (!config_.reference_free && !context.has_reference) {
      throw_bad_input("there is no model before training to compare with", {},
                      "an adapter, which is switched off for the reference", "[objective]",
                      "add a [peft] section, or set reference_free = true");
    }
    AnswerScores reference;
    if (!config_.reference_free)
      context.reference([&] { reference = score_answers(context.model, batch); });
    const AnswerScores policy = score_answers(context.model, batch);
    if (config_.reference_free) {
      reference.chosen = at::zeros_like(policy.chosen.detach());
      reference.rejected = reference.chosen;
    }
    const at::Tensor chosen = policy.chosen - reference.chosen;
    const at::Tensor rejected = policy.rejected - reference.rejected;
    return terms(ops::preference_losses(chosen - rejected, options_), chosen * config_.beta,
                 rejected * config_.beta);
  }

 private:
  DpoConfig config_;
  ops::PreferenceOptions options_;
};

struct SimpoConfig {
  double beta = 2.0;
  double gamma = 1.0;

  static ConfigSchema<SimpoConfig> schema() {
    return ConfigSchema<SimpoConfig>()
        .field("beta", &SimpoConfig::beta, "scale of the mean log probability of a token")
        .more_than(0)
        .field("gamma", &SimpoConfig::gamma, "margin that the chosen answer has to win by")
        .at_least(0);
  }
};

class Simpo final : public PairObjective {
 public:
  using Config = SimpoConfig;
  explicit Simpo(const SimpoConfig& config) : config_(config) {}

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    const AnswerScores policy = score_answers(context.model, batch);
    const at::Tensor chosen = policy.chosen / policy.chosen_tokens.clamp_min(1) * config_.beta;
    const at::Tensor rejected =
        policy.rejected / policy.rejected_tokens.clamp_min(1) * config_.beta;
    return terms(-at::log_sigmoid(chosen - rejected - config_.gamma), chosen, rejected);
  }

 private:
  SimpoConfig config_;
};

struct OrpoConfig {
  double beta = 0.1;

  static ConfigSchema<OrpoConfig> schema() {
    return ConfigSchema<OrpoConfig>()
        .field("beta", &OrpoConfig::beta,
               "weight of the odds ratio beside the chosen answer's loss")
        .at_least(0);
  }
};

class Orpo final : public PairObjective {
 public:
  using Config = OrpoConfig;
  explicit Orpo(const OrpoConfig& config) : config_(config) {}

  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    const AnswerScores policy = score_answers(context.model, batch);
    const at::Tensor chosen = policy.chosen / policy.chosen_tokens.clamp_min(1);
    const at::Tensor rejected = policy.rejected / policy.rejected_tokens.clamp_min(1);
    const at::Tensor odds = ops::log_odds_preference(chosen, rejected);
    return terms(-chosen - odds * config_.beta, chosen * config_.beta, rejected * config_.beta);
  }

 private:
  OrpoConfig config_;
};

void register_components(Registrar& registrar) {
  registrar.add<Objective, Dpo>("dpo", "prefer chosen answers to rejected ones (DPO, IPO, SLiC)");
  registrar.add<Objective, Kto>("kto", "answers that are marked good or bad, one by one (KTO)");
  registrar.add<Objective, Simpo>("simpo", "preferences by mean log probability, no reference");
  registrar.add<Objective, Orpo>("orpo", "fine-tuning and odds ratio in one, no reference");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.preference", "0.1.0", espalier::register_components)
