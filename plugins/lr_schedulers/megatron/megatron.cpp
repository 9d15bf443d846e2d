// The schedule of Megatron-LM's OptimizerParamScheduler, as a closed function of the step
// (megatron/core/optimizer_param_scheduler.py, get_lr).
#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct MegatronConfig {
  std::string lr_decay_style = "linear";
  std::optional<std::int64_t> lr_warmup_steps;
  std::optional<std::int64_t> lr_decay_steps;
  std::optional<double> init_lr;
  std::optional<double> min_lr;
  bool automodel_defaults = false;
  std::int64_t wsd_decay_steps = 0;
  std::string lr_wsd_decay_style = "exponential";

  static ConfigSchema<MegatronConfig> schema() {
    using C = MegatronConfig;
    return ConfigSchema<C>()
        .field("lr_decay_style", &C::lr_decay_style,
               "shape of the fall; WSD stays at the base rate and falls at the end")
        .one_of({"constant", "linear", "cosine", "inverse-square-root", "WSD"})
        .field("lr_warmup_steps", &C::lr_warmup_steps,
               "steps in which the rate rises from init_lr; left out: none")
        .at_least(0)
        .field("lr_decay_steps", &C::lr_decay_steps,
               "step at which the fall ends, warm-up included; default: all steps")
        .at_least(1)
        .field("init_lr", &C::init_lr, "rate of the first step of the warm-up; left out: 0")
        .at_least(0)
        .field("min_lr", &C::min_lr, "rate at the end; left out: 0")
        .at_least(0)
        .field(
            "automodel_defaults", &C::automodel_defaults,
            "what is left out is as in NeMo Automodel: a warm-up of a tenth of all steps, at most "
            "1000, from 0.1 to 0.01 of the base rate")
        .field("wsd_decay_steps", &C::wsd_decay_steps, "steps of the fall of WSD")
        .at_least(0)
        .field("lr_wsd_decay_style", &C::lr_wsd_decay_style, "shape of the fall of WSD")
        .one_of({"linear", "cosine", "exponential", "minus_sqrt"});
  }
};

double half_cosine(double progress) { return 0.5 * (std::cos(std::numbers::pi * progress) + 1.0); }

class MegatronSchedule final : public LrScheduler {
 public:
  using Config = MegatronConfig;

  explicit MegatronSchedule(MegatronConfig config) : config_(std::move(config)) {
    if (config_.lr_decay_style == "WSD" && config_.wsd_decay_steps == 0) {
      throw_bad_input("the schedule WSD has no fall", "wsd_decay_steps = 0", "1 or more",
                      "wsd_decay_steps");
    }
    const std::int64_t warmup = config_.lr_warmup_steps.value_or(0);
    if (config_.lr_decay_steps && *config_.lr_decay_steps <= warmup) {
      throw_bad_input("the fall ends before the warm-up does",
                      std::to_string(*config_.lr_decay_steps),
                      "more than lr_warmup_steps = " + std::to_string(warmup), "lr_decay_steps");
    }
  }

  double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const override {
    constexpr std::int64_t kLongestWarmup = 1000;
    const bool filled = config_.automodel_defaults;
    const std::int64_t warmup =
        config_.lr_warmup_steps.value_or(filled ? std::min(kLongestWarmup, total_steps / 10) : 0);
    const std::int64_t decay = config_.lr_decay_steps.value_or(total_steps);
    const double first = config_.init_lr.value_or(filled ? 0.1 * base_lr : 0);
    const double low = config_.min_lr.value_or(filled ? 0.01 * base_lr : 0);
    if (warmup > 0 && step <= warmup)
      return first + (base_lr - first) * static_cast<double>(step) / static_cast<double>(warmup);
    if (config_.lr_decay_style == "constant") return base_lr;
    if (step > decay) return low;
    if (config_.lr_decay_style == "inverse-square-root") {
      const double start = std::sqrt(static_cast<double>(std::max<std::int64_t>(warmup, 1)));
      return std::max(
          low, base_lr * start / std::sqrt(static_cast<double>(std::max<std::int64_t>(step, 1))));
    }
    return low + share(step, warmup, decay) * (base_lr - low);
  }

 private:
  /// Of the way from the lowest to the base rate.
  double share(std::int64_t step, std::int64_t warmup, std::int64_t decay) const {
    if (config_.lr_decay_style == "WSD") return end_share(step, decay);
    const double progress = static_cast<double>(step - warmup) /
                            static_cast<double>(std::max<std::int64_t>(decay - warmup, 1));
    return config_.lr_decay_style == "cosine" ? half_cosine(progress) : 1.0 - progress;
  }

  double end_share(std::int64_t step, std::int64_t decay) const {
    const std::int64_t start = decay - config_.wsd_decay_steps;
    if (step <= start) return 1.0;
    const double progress =
        static_cast<double>(step - start) / static_cast<double>(config_.wsd_decay_steps);
    if (config_.lr_wsd_decay_style == "linear") return 1.0 - progress;
    if (config_.lr_wsd_decay_style == "cosine") return half_cosine(progress);
    if (config_.lr_wsd_decay_style == "exponential") return 2.0 * std::pow(0.5, progress) - 1.0;
    return 1.0 - std::sqrt(progress);
  }

  MegatronConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<LrScheduler, MegatronSchedule>(
          "megatron", "the schedule of Megatron-LM: a warm-up and one of five shapes")
      .alias("nemo_automodel.components.optim.scheduler.OptimizerParamScheduler",
             parse_json(R"({"": {"lr_decay_style": "cosine", "automodel_defaults": true},
                            "use_checkpoint_opt_param_scheduler": {"only": false},
                            "override_opt_param_scheduler": {"only": false}})")
                 .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.megatron_schedules", "0.1.0", espalier::register_components)
