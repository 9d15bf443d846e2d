// The schedules of transformers' get_scheduler, as closed functions of the step. All warm up
// linearly from 0 (their first step has learning rate 0 when there is a warm-up), and the cosine
// rises again past the last step, as there.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

double half_cosine(double turns) { return 0.5 * (1.0 + std::cos(std::numbers::pi * turns)); }

/// Fields that most schedules have, and the warm-up.
struct WarmupConfig {
  std::int64_t warmup_steps = 0;
  std::optional<std::int64_t> decay_steps;

  template <class C>
  static ConfigSchema<C>& declare(ConfigSchema<C>& schema) {
    return schema.field("warmup_steps", &C::warmup_steps, "steps in which the rate rises from 0")
        .at_least(0)
        .field("decay_steps", &C::decay_steps,
               "step at which the decay ends, warm-up included; default: all steps")
        .at_least(1);
  }

  /// 0 to 1 over the warm-up.
  double warmup(std::int64_t step) const {
    return static_cast<double>(step) / static_cast<double>(std::max<std::int64_t>(1, warmup_steps));
  }
  double end(std::int64_t total_steps) const {
    return static_cast<double>(decay_steps.value_or(total_steps));
  }
  /// 0 at the end of the warm-up, 1 at the end.
  double progress(std::int64_t step, std::int64_t total_steps) const {
    const double warm = static_cast<double>(warmup_steps);
    return (static_cast<double>(step) - warm) / std::max(1.0, end(total_steps) - warm);
  }
};

struct ConstantConfig : WarmupConfig {
  static ConfigSchema<ConstantConfig> schema() {
    ConfigSchema<ConstantConfig> schema;
    schema
        .field("warmup_steps", &ConstantConfig::warmup_steps,
               "steps in which the rate rises from 0")
        .at_least(0);
    return schema;
  }
};

class Constant final : public LrScheduler {
 public:
  using Config = ConstantConfig;
  explicit Constant(ConstantConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t) const override {
    return step < config_.warmup_steps ? base_lr * config_.warmup(step) : base_lr;
  }

 private:
  ConstantConfig config_;
};

struct LinearConfig : WarmupConfig {
  double min_lr = 0.0;
  static ConfigSchema<LinearConfig> schema() {
    ConfigSchema<LinearConfig> schema;
    declare(schema).field("min_lr", &LinearConfig::min_lr, "rate at the end").at_least(0);
    return schema;
  }
};

class Linear final : public LrScheduler {
 public:
  using Config = LinearConfig;
  explicit Linear(LinearConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    if (step < config_.warmup_steps) return base_lr * config_.warmup(step);
    const double factor = std::max(0.0, 1.0 - config_.progress(step, total_steps));
    return config_.min_lr + (base_lr - config_.min_lr) * factor;
  }

 private:
  LinearConfig config_;
};

struct CosineConfig : WarmupConfig {
  double min_lr = 0.0;
  std::optional<double> min_lr_rate;
  double num_cycles = 0.5;
  static ConfigSchema<CosineConfig> schema() {
    ConfigSchema<CosineConfig> schema;
    declare(schema)
        .field("min_lr", &CosineConfig::min_lr, "rate at the end")
        .at_least(0)
        .field("min_lr_rate", &CosineConfig::min_lr_rate,
               "rate at the end as a share of the base rate; replaces min_lr")
        .at_least(0)
        .at_most(1)
        .field("num_cycles", &CosineConfig::num_cycles, "waves; 0.5 falls once")
        .more_than(0);
    return schema;
  }
};

class Cosine final : public LrScheduler {
 public:
  using Config = CosineConfig;
  explicit Cosine(CosineConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    if (step < config_.warmup_steps) return base_lr * config_.warmup(step);
    const double low = config_.min_lr_rate ? *config_.min_lr_rate * base_lr : config_.min_lr;
    const double factor =
        half_cosine(config_.num_cycles * 2.0 * config_.progress(step, total_steps));
    return low + (base_lr - low) * std::max(0.0, factor);
  }

 private:
  CosineConfig config_;
};

struct RestartsConfig : WarmupConfig {
  std::int64_t num_cycles = 1;
  static ConfigSchema<RestartsConfig> schema() {
    ConfigSchema<RestartsConfig> schema;
    declare(schema)
        .field("num_cycles", &RestartsConfig::num_cycles, "falls from the base rate to 0")
        .at_least(1);
    return schema;
  }
};

class CosineWithRestarts final : public LrScheduler {
 public:
  using Config = RestartsConfig;
  explicit CosineWithRestarts(RestartsConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    if (step < config_.warmup_steps) return base_lr * config_.warmup(step);
    const double progress = config_.progress(step, total_steps);
    if (progress >= 1.0) return 0.0;
    return base_lr * std::max(0.0, half_cosine(std::fmod(
                                       static_cast<double>(config_.num_cycles) * progress, 1.0)));
  }

 private:
  RestartsConfig config_;
};

struct PolynomialConfig : WarmupConfig {
  double lr_end = 1e-7;
  double power = 1.0;
  static ConfigSchema<PolynomialConfig> schema() {
    ConfigSchema<PolynomialConfig> schema;
    declare(schema)
        .field("lr_end", &PolynomialConfig::lr_end, "rate at the end; below the base rate")
        .at_least(0)
        .field("power", &PolynomialConfig::power, "exponent of the decay; 1 is linear")
        .more_than(0);
    return schema;
  }
};

class Polynomial final : public LrScheduler {
 public:
  using Config = PolynomialConfig;
  explicit Polynomial(PolynomialConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    if (step < config_.warmup_steps) return base_lr * config_.warmup(step);
    if (static_cast<double>(step) > config_.end(total_steps)) return config_.lr_end;
    const double remaining = std::max(0.0, 1.0 - config_.progress(step, total_steps));
    return config_.lr_end + (base_lr - config_.lr_end) * std::pow(remaining, config_.power);
  }

 private:
  PolynomialConfig config_;
};

struct InverseSqrtConfig {
  std::int64_t warmup_steps = 0;
  std::optional<std::int64_t> timescale;
  static ConfigSchema<InverseSqrtConfig> schema() {
    return ConfigSchema<InverseSqrtConfig>()
        .field("warmup_steps", &InverseSqrtConfig::warmup_steps,
               "steps in which the rate rises from 0")
        .at_least(0)
        .field("timescale", &InverseSqrtConfig::timescale,
               "steps until the rate starts to fall; default: warmup_steps or 10000")
        .at_least(1);
  }
};

class InverseSqrt final : public LrScheduler {
 public:
  using Config = InverseSqrtConfig;
  explicit InverseSqrt(InverseSqrtConfig config) : config_(config) {}
  double lr(std::int64_t step, double base_lr, std::int64_t) const override {
    const std::int64_t warm = config_.warmup_steps;
    if (step < warm)
      return base_lr * static_cast<double>(step) /
             static_cast<double>(std::max<std::int64_t>(1, warm));
    const std::int64_t timescale = config_.timescale.value_or(warm > 0 ? warm : 10000);
    return base_lr /
           std::sqrt(static_cast<double>(step + timescale - warm) / static_cast<double>(timescale));
  }

 private:
  InverseSqrtConfig config_;
};

struct WarmupStableDecayConfig {
  std::int64_t warmup_steps = 0;
  std::int64_t num_decay_steps = 0;
  std::optional<std::int64_t> num_stable_steps;
  std::string warmup_type = "linear";
  std::string decay_type = "cosine";
  double min_lr_ratio = 0.0;
  double num_cycles = 0.5;
  static ConfigSchema<WarmupStableDecayConfig> schema() {
    using C = WarmupStableDecayConfig;
    return ConfigSchema<C>()
        .field("warmup_steps", &C::warmup_steps, "steps in which the rate rises")
        .at_least(0)
        .field("num_decay_steps", &C::num_decay_steps, "steps in which the rate falls")
        .required()
        .at_least(1)
        .field("num_stable_steps", &C::num_stable_steps,
               "steps at the base rate; default: what is left of the run")
        .at_least(0)
        .field("warmup_type", &C::warmup_type, "shape of the rise")
        .one_of({"linear", "cosine", "1-sqrt"})
        .field("decay_type", &C::decay_type, "shape of the fall")
        .one_of({"linear", "cosine", "1-sqrt"})
        .field("min_lr_ratio", &C::min_lr_ratio,
               "rate at start and end as a share of the base rate")
        .at_least(0)
        .at_most(1)
        .field("num_cycles", &C::num_cycles, "waves of a cosine decay")
        .more_than(0);
  }
};

class WarmupStableDecay final : public LrScheduler {
 public:
  using Config = WarmupStableDecayConfig;
  explicit WarmupStableDecay(WarmupStableDecayConfig config) : config_(std::move(config)) {}

  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    const std::int64_t warm = config_.warmup_steps;
    const std::int64_t stable =
        config_.num_stable_steps.value_or(total_steps - warm - config_.num_decay_steps);
    if (step < warm)
      return base_lr * above_minimum(rise(static_cast<double>(step) / static_cast<double>(warm)));
    if (step < warm + stable) return base_lr;
    if (step >= warm + stable + config_.num_decay_steps) return base_lr * config_.min_lr_ratio;
    return base_lr * above_minimum(fall(static_cast<double>(step - warm - stable) /
                                        static_cast<double>(config_.num_decay_steps)));
  }

 private:
  double above_minimum(double factor) const {
    return std::max(0.0, factor * (1.0 - config_.min_lr_ratio) + config_.min_lr_ratio);
  }
  double rise(double progress) const {
    if (config_.warmup_type == "cosine") return 1.0 - half_cosine(progress);
    if (config_.warmup_type == "1-sqrt") return 1.0 - std::sqrt(1.0 - progress);
    return progress;
  }
  double fall(double progress) const {
    if (config_.decay_type == "cosine") return half_cosine(config_.num_cycles * 2.0 * progress);
    if (config_.decay_type == "1-sqrt") return 1.0 - std::sqrt(progress);
    return 1.0 - progress;
  }

  WarmupStableDecayConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<LrScheduler, Constant>("constant",
                                  "the base rate throughout, after a warm-up if asked for")
      .property("default_for", "lr_scheduler");
  registrar.add<LrScheduler, Constant>("constant_with_warmup", "the base rate after a warm-up");
  registrar.add<LrScheduler, Linear>("linear", "falls in a straight line");
  registrar.add<LrScheduler, Cosine>("cosine", "falls along a half cosine");
  registrar.add<LrScheduler, Cosine>("cosine_with_min_lr",
                                     "falls along a half cosine to min_lr or min_lr_rate");
  registrar.add<LrScheduler, CosineWithRestarts>(
      "cosine_with_restarts", "falls several times, back to the base rate between");
  registrar.add<LrScheduler, Polynomial>("polynomial",
                                         "falls along a power of the remaining steps");
  registrar.add<LrScheduler, InverseSqrt>("inverse_sqrt", "falls with the root of the step");
  registrar.add<LrScheduler, WarmupStableDecay>("warmup_stable_decay",
                                                "rises, stays, falls at the end");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.transformers_schedules", "0.1.0", espalier::register_components)
