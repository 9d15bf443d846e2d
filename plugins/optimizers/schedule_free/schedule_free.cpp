// Schedule-free AdamW (Defazio et al. 2024, "The Road Less Scheduled"), as in
// facebookresearch/schedule_free. Three points: z takes the steps, x averages z and is the result,
// and gradients are taken at y = (1 - beta1) z + beta1 x. Parameters hold y and the state holds z,
// so that x needs no memory of its own: x = y + (1 - 1 / beta1) (z - y).
#include <ATen/TensorOperators.h>
#include <ATen/ops/lerp.h>

#include <algorithm>
#include <cmath>

#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct ScheduleFreeConfig {
  double lr = 2.5e-3;
  std::vector<double> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.0;
  std::int64_t warmup_steps = 0;
  double r = 0.0;
  double weight_lr_power = 2.0;
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<ScheduleFreeConfig> schema() {
    return ConfigSchema<ScheduleFreeConfig>()
        .field("lr", &ScheduleFreeConfig::lr,
               "learning rate; larger than with a schedule, and best without one")
        .at_least(0)
        .field("betas", &ScheduleFreeConfig::betas,
               "share of the average in the point of the gradient; decay rate of the squares")
        .length(2)
        .more_than(0)
        .less_than(1)
        .field("eps", &ScheduleFreeConfig::eps, "added to the root of the second moment")
        .at_least(0)
        .field("weight_decay", &ScheduleFreeConfig::weight_decay, "decoupled weight decay")
        .at_least(0)
        .field("warmup_steps", &ScheduleFreeConfig::warmup_steps,
               "steps over which the learning rate rises to lr")
        .at_least(0)
        .field("r", &ScheduleFreeConfig::r, "weight of a step in the average: step ^ r")
        .field("weight_lr_power", &ScheduleFreeConfig::weight_lr_power,
               "and largest learning rate so far ^ weight_lr_power")
        .field("param_groups", &ScheduleFreeConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

class ScheduleFreeAdamW final : public Optimizer {
 public:
  using Config = ScheduleFreeConfig;
  explicit ScheduleFreeAdamW(ScheduleFreeConfig config) : config_(std::move(config)) {}

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  std::vector<OptimizerStateSpec> state_specs() const override {
    using Layout = OptimizerStateSpec::Layout;
    return {{"z"},
            {"exp_avg_sq"},
            {"weight_sum", Layout::kScalar, at::kDouble},
            {"lr_max", Layout::kScalar, at::kDouble}};
  }
  bool has_eval_point() const override { return true; }

  void update(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i) update_one(update, i);
  }

  void to_eval_point(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      if (update.states[kWeightSum][i].item<double>() == 0) continue;  // z is y
      update.parameters[i].lerp_(update.states[kZ][i], 1 - 1 / config_.betas[0]);
    }
  }

 private:
  enum State : std::size_t { kZ, kSquares, kWeightSum, kLargestLr };

  void update_one(OptimizerUpdate& update, std::size_t i) const {
    const at::Tensor& y = update.parameters[i];
    const at::Tensor& z = update.states[kZ][i];
    const at::Tensor& squares = update.states[kSquares][i];
    const auto step = static_cast<double>(update.step);
    double weight_sum = update.states[kWeightSum][i].item<double>();
    if (weight_sum == 0) z.copy_(y);  // no step has had a learning rate yet

    double lr = update.lr;
    if (update.step < config_.warmup_steps) lr *= step / static_cast<double>(config_.warmup_steps);
    const double largest = std::max(lr, update.states[kLargestLr][i].item<double>());
    const double weight = std::pow(step, config_.r) * std::pow(largest, config_.weight_lr_power);
    weight_sum += weight;
    const double share = weight_sum == 0 ? 0 : weight / weight_sum;

    const double beta1 = config_.betas[0];
    const double beta2 = config_.betas[1];
    squares.mul_(beta2).addcmul_(update.gradients[i], update.gradients[i], 1 - beta2);
    const at::Tensor root = squares.div(1 - std::pow(beta2, step)).sqrt_().add_(config_.eps);
    at::Tensor direction = update.gradients[i].div(root);
    if (update.weight_decay != 0) direction.add_(y, update.weight_decay);
    y.lerp_(z, share);
    y.add_(direction, lr * (beta1 * (1 - share) - 1));
    z.sub_(direction, lr);
    update.states[kWeightSum][i].fill_(weight_sum);
    update.states[kLargestLr][i].fill_(largest);
  }

  ScheduleFreeConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Optimizer, ScheduleFreeAdamW>("schedule_free_adamw",
                                         "AdamW with an average of iterates in place of a schedule")
      .alias("schedulefree.AdamWScheduleFree");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.schedule_free", "0.1.0", espalier::register_components)
