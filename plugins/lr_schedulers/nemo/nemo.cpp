// The schedules of NVIDIA NeMo (nemo/core/optim/lr_scheduler.py), as closed functions of the step,
// under their names there. Symbols: b base rate, W warmup_steps, H the last step of the plateau
// (warm-up included), M max_steps, L min_lr, s the step from 0.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>

#include "espalier/base/error.h"
#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct PolicyConfig {
  std::int64_t warmup_steps = 0;
  std::optional<std::int64_t> max_steps;
  double min_lr = 0.0;

  template <class C>
  static ConfigSchema<C>& declare(ConfigSchema<C>& schema) {
    return schema
        .field("warmup_steps", &C::warmup_steps, "steps in which the rate rises to the base rate")
        .at_least(0)
        .field("max_steps", &C::max_steps, "step at which the fall ends; default: all steps")
        .at_least(1)
        .field("min_lr", &C::min_lr, "rate at the end")
        .at_least(0);
  }
  static ConfigSchema<PolicyConfig> schema() {
    ConfigSchema<PolicyConfig> schema;
    declare(schema);
    return schema;
  }
};

/// A warm-up that leaves nothing for the fall would divide by 0.
void require_room(const std::optional<std::int64_t>& max_steps, std::int64_t before) {
  if (!max_steps || *max_steps > before) return;
  throw_bad_input("the fall ends before it begins", std::to_string(*max_steps),
                  "more than the " + std::to_string(before) + " steps of warm-up and plateau",
                  "max_steps");
}

/// (s + 1) / (W + 1), NeMo's warm-up, which never has a rate of 0.
double rising(std::int64_t step, std::int64_t warmup) {
  return static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
}

/// What a rule knows of one step.
struct Moment {
  double s;
  double b;
  double W;
  double H;
  double M;
  double L;
};

double square(const Moment& at) {
  const double share = (at.M - at.s) / (at.M - at.W);
  return std::max(at.L, at.b * share * share);
}
double square_root(const Moment& at) {
  return std::max(at.L, at.b * std::sqrt((at.M - at.s) / at.M));
}
double straight(const Moment& at) {
  return at.L + (1.0 - (at.s - at.W) / (at.M - at.W)) * (at.b - at.L);
}
double inverse_square_root(const Moment& at) {
  return at.b / std::sqrt((at.s + 1.0) / (at.W + 1.0));
}
double straight_after_hold(const Moment& at) {
  return at.b - (at.b - at.L) * (at.s - at.H) / (at.M - at.H);
}
double one_minus_root_after_hold(const Moment& at) {
  return std::max(at.L, at.b * (1.0 - std::sqrt((at.s - at.H) / (at.M - at.H))));
}

/// Warm-up, then a rule until max_steps, then min_lr.
template <double (*Rule)(const Moment&)>
class Policy final : public LrScheduler {
 public:
  using Config = PolicyConfig;
  explicit Policy(PolicyConfig config) : config_(config) {
    require_room(config_.max_steps, config_.warmup_steps);
  }
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    const std::int64_t warmup = config_.warmup_steps;
    // A run that is no longer than its warm-up never reaches the rule.
    const std::int64_t end = std::max(config_.max_steps.value_or(total_steps), warmup + 1);
    if (warmup > 0 && step <= warmup) return base_lr * rising(step, warmup);
    if (step > end) return config_.min_lr;
    return Rule({static_cast<double>(step), base_lr, static_cast<double>(warmup), 0.0,
                 static_cast<double>(end), config_.min_lr});
  }

 private:
  PolicyConfig config_;
};

struct HoldConfig : PolicyConfig {
  std::int64_t hold_steps = 0;

  template <class C>
  static ConfigSchema<C>& declare(ConfigSchema<C>& schema) {
    return PolicyConfig::declare(schema)
        .field("hold_steps", &C::hold_steps, "steps at the base rate after the warm-up")
        .at_least(0);
  }
  static ConfigSchema<HoldConfig> schema() {
    ConfigSchema<HoldConfig> schema;
    declare(schema);
    return schema;
  }
};

/// The frame of the policies with a plateau; `rule` gives the rates after it. NeMo counts a plateau
/// that is not asked for as one that ends at step 0, also after a warm-up.
template <class Rule>
double with_hold(const HoldConfig& config, std::int64_t step, double base_lr,
                 std::int64_t total_steps, const Rule& rule) {
  const std::int64_t warmup = config.warmup_steps;
  const std::int64_t hold = config.hold_steps > 0 ? config.hold_steps + warmup : 0;
  const std::int64_t end =
      std::max(config.max_steps.value_or(total_steps), std::max(hold, warmup) + 1);
  if (warmup > 0 && step <= warmup) return base_lr * rising(step, warmup);
  if (warmup <= step && step < hold) return base_lr;
  if (step > end) return config.min_lr;
  return rule(Moment{static_cast<double>(step), base_lr, static_cast<double>(warmup),
                     static_cast<double>(hold), static_cast<double>(end), config.min_lr});
}

template <double (*Rule)(const Moment&)>
class HoldPolicy final : public LrScheduler {
 public:
  using Config = HoldConfig;
  explicit HoldPolicy(HoldConfig config) : config_(config) {
    require_room(config_.max_steps, config_.warmup_steps + config_.hold_steps);
  }
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    return with_hold(config_, step, base_lr, total_steps, Rule);
  }

 private:
  HoldConfig config_;
};

struct PolynomialConfig : PolicyConfig {
  double power = 1.0;
  static ConfigSchema<PolynomialConfig> schema() {
    ConfigSchema<PolynomialConfig> schema;
    declare(schema)
        .field("power", &PolynomialConfig::power, "exponent of the fall; 1 is linear")
        .more_than(0);
    return schema;
  }
};

class Polynomial final : public LrScheduler {
 public:
  using Config = PolynomialConfig;
  explicit Polynomial(PolynomialConfig config) : config_(config) {
    require_room(config_.max_steps, config_.warmup_steps);
  }
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    const std::int64_t warmup = config_.warmup_steps;
    const std::int64_t end = std::max(config_.max_steps.value_or(total_steps), warmup + 1);
    if (warmup > 0 && step <= warmup) return base_lr * rising(step, warmup);
    if (step > end) return config_.min_lr;
    const double progress = static_cast<double>(step - warmup) / static_cast<double>(end - warmup);
    return (base_lr - config_.min_lr) * std::pow(1.0 - progress, config_.power) + config_.min_lr;
  }

 private:
  PolynomialConfig config_;
};

struct PolynomialHoldConfig : HoldConfig {
  double power = 1.0;
  static ConfigSchema<PolynomialHoldConfig> schema() {
    ConfigSchema<PolynomialHoldConfig> schema;
    declare(schema)
        .field("power", &PolynomialHoldConfig::power, "exponent of the fall; 1 is linear")
        .more_than(0);
    return schema;
  }
};

class PolynomialHold final : public LrScheduler {
 public:
  using Config = PolynomialHoldConfig;
  explicit PolynomialHold(PolynomialHoldConfig config) : config_(config) {
    require_room(config_.max_steps, config_.warmup_steps + config_.hold_steps);
  }
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    return with_hold(config_, step, base_lr, total_steps, [this](const Moment& at) {
      const double length = at.M - std::max(at.W, at.H);
      const double progress = std::min(at.s - at.H, length) / length;
      return (at.b - at.L) * std::pow(1.0 - progress, config_.power) + at.L;
    });
  }

 private:
  PolynomialHoldConfig config_;
};

struct NoamHoldConfig : HoldConfig {
  double decay_rate = 0.5;
  static ConfigSchema<NoamHoldConfig> schema() {
    ConfigSchema<NoamHoldConfig> schema;
    declare(schema)
        .field("decay_rate", &NoamHoldConfig::decay_rate, "exponent of the step in the fall")
        .more_than(0);
    return schema;
  }
};

class NoamHold final : public LrScheduler {
 public:
  using Config = NoamHoldConfig;
  explicit NoamHold(NoamHoldConfig config) : config_(config) {
    require_room(config_.max_steps, config_.warmup_steps + config_.hold_steps);
  }
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    return with_hold(config_, step, base_lr, total_steps, [this](const Moment& at) {
      const double held = at.H > 0 ? at.H - at.W : 0.0;
      const double start = std::max(1.0, std::pow(at.W, config_.decay_rate));
      const double now = std::max(1.0, std::pow(std::max(0.0, at.s - held), config_.decay_rate));
      return std::max(at.L, at.b * start / now);
    });
  }

 private:
  NoamHoldConfig config_;
};

struct CosineConfig : PolicyConfig {
  std::int64_t constant_steps = 0;
  static ConfigSchema<CosineConfig> schema() {
    ConfigSchema<CosineConfig> schema;
    declare(schema)
        .field("constant_steps", &CosineConfig::constant_steps, "steps at min_lr at the end")
        .at_least(0);
    return schema;
  }
};

/// With constant_steps NeMo warms up as s / W, without as (s + 1) / (W + 1).
class Cosine final : public LrScheduler {
 public:
  using Config = CosineConfig;
  explicit Cosine(CosineConfig config) : config_(config) {
    require_room(config_.max_steps, config_.warmup_steps + config_.constant_steps);
  }
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    const std::int64_t warmup = config_.warmup_steps;
    const std::int64_t constant = config_.constant_steps;
    const std::int64_t length =
        std::max<std::int64_t>(config_.max_steps.value_or(total_steps) - (constant + warmup), 1);
    if (warmup > 0 && step <= warmup) {
      return base_lr * (constant > 0 ? static_cast<double>(step) / static_cast<double>(warmup)
                                     : rising(step, warmup));
    }
    if (step > warmup + length) return config_.min_lr;
    const double progress = static_cast<double>(step - warmup) / static_cast<double>(length);
    return config_.min_lr +
           (base_lr - config_.min_lr) / 2.0 * (1.0 + std::cos(std::numbers::pi * progress));
  }

 private:
  CosineConfig config_;
};

struct NoamConfig {
  std::int64_t d_model = 0;
  std::int64_t warmup_steps = 0;
  double min_lr = 0.0;
  static ConfigSchema<NoamConfig> schema() {
    return ConfigSchema<NoamConfig>()
        .field("d_model", &NoamConfig::d_model, "width of the model, which scales the rate")
        .required()
        .at_least(1)
        .field("warmup_steps", &NoamConfig::warmup_steps, "steps in which the rate rises")
        .at_least(0)
        .field("min_lr", &NoamConfig::min_lr, "lowest rate after the warm-up")
        .at_least(0);
  }
};

/// Vaswani et al. 2017, "Attention is all you need", section 5.3.
class Noam final : public LrScheduler {
 public:
  using Config = NoamConfig;
  explicit Noam(NoamConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t) const override {
    const double at = static_cast<double>(std::max<std::int64_t>(1, step));
    const double warmup = static_cast<double>(config_.warmup_steps);
    double factor = 1.0 / std::sqrt(at);
    if (warmup > 0) factor = std::min(factor, at * std::pow(warmup, -1.5));
    const double rate = base_lr / std::sqrt(static_cast<double>(config_.d_model)) * factor;
    return at > warmup ? std::max(rate, config_.min_lr) : rate;
  }

 private:
  NoamConfig config_;
};

void register_components(Registrar& registrar) {
  registrar.add<LrScheduler, Cosine>("CosineAnnealing", "falls along a half cosine");
  registrar.add<LrScheduler, Policy<square>>("SquareAnnealing",
                                             "falls with the square of what is left");
  registrar.add<LrScheduler, Policy<square_root>>("SquareRootAnnealing",
                                                  "falls with the root of what is left");
  registrar.add<LrScheduler, Policy<straight>>("WarmupAnnealing", "falls in a straight line");
  registrar.add<LrScheduler, Policy<inverse_square_root>>("InverseSquareRootAnnealing",
                                                          "falls with the root of the step");
  registrar.add<LrScheduler, Polynomial>("PolynomialDecayAnnealing",
                                         "falls along a power of what is left");
  registrar.add<LrScheduler, PolynomialHold>("PolynomialHoldDecayAnnealing",
                                             "stays, then falls along a power of what is left");
  registrar.add<LrScheduler, HoldPolicy<straight_after_hold>>("WarmupHoldAnnealLinear",
                                                              "stays, then falls in a line");
  registrar.add<LrScheduler, HoldPolicy<one_minus_root_after_hold>>(
      "WarmupHoldAnnealOneMinusSquareRoot", "stays, then falls fast at first");
  registrar.add<LrScheduler, NoamHold>("NoamHoldAnnealing",
                                       "stays, then falls with a power of the step");
  registrar.add<LrScheduler, Noam>("NoamAnnealing", "rises and falls as the transformer's rate");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.nemo_schedules", "0.1.0", espalier::register_components)
