// Adafactor (Shazeer and Stern 2018), with the semantics of transformers.Adafactor. Squared
// gradients of a matrix are kept as means of its rows and of its columns: the state of [out, in] is
// out + in numbers in float32. A temporary of the parameter's size is made for one parameter at a
// time.
#include <ATen/TensorOperators.h>
#include <ATen/ops/mul.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

constexpr double kLr = 1e-3;
constexpr double kLargestRelativeStep = 1e-2;

struct AdafactorConfig {
  std::optional<double> lr;
  std::vector<double> eps{1e-30, 1e-3};
  double clip_threshold = 1.0;
  double decay_rate = -0.8;
  std::optional<double> beta1;
  double weight_decay = 0.0;
  bool scale_parameter = false;
  bool relative_step = false;
  bool warmup_init = false;
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<AdafactorConfig> schema() {
    return ConfigSchema<AdafactorConfig>()
        .field("lr", &AdafactorConfig::lr,
               "learning rate before the schedule (default 0.001); not with relative_step")
        .at_least(0)
        .field("eps", &AdafactorConfig::eps,
               "added to the squared gradient; least root mean square of a parameter that "
               "scale_parameter counts with")
        .length(2)
        .at_least(0)
        .field("clip_threshold", &AdafactorConfig::clip_threshold,
               "largest root mean square of an update before the learning rate")
        .more_than(0)
        .field("decay_rate", &AdafactorConfig::decay_rate,
               "the squared gradients decay by 1 - step ^ decay_rate")
        .at_most(0)
        .field("beta1", &AdafactorConfig::beta1,
               "decay rate of a first moment, which takes a state as large as the parameter")
        .at_least(0)
        .less_than(1)
        .field("weight_decay", &AdafactorConfig::weight_decay, "decoupled weight decay")
        .at_least(0)
        .field("scale_parameter", &AdafactorConfig::scale_parameter,
               "multiply the learning rate by the root mean square of the parameter")
        .field("relative_step", &AdafactorConfig::relative_step,
               "a learning rate of its own, 1 / sqrt(step) and at most 0.01; a schedule multiplies "
               "it")
        .field("warmup_init", &AdafactorConfig::warmup_init,
               "with relative_step: at most step * 1e-6 in place of 0.01")
        .field("param_groups", &AdafactorConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

/// Root mean square; 0 of nothing.
double rms(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  return tensor.norm(2).item<double>() / std::sqrt(static_cast<double>(tensor.numel()));
}

class Adafactor final : public Optimizer {
 public:
  using Config = AdafactorConfig;
  explicit Adafactor(AdafactorConfig config) : config_(std::move(config)) {
    if (config_.lr && config_.relative_step) {
      throw_bad_input("adafactor takes a learning rate or makes its own, not both",
                      "lr " + std::to_string(*config_.lr) + " and relative_step", "one of the two",
                      "optimizer.relative_step");
    }
    if (config_.warmup_init && !config_.relative_step) {
      throw_bad_input("warmup_init is about the learning rate that relative_step makes", {},
                      "relative_step = true", "optimizer.warmup_init");
    }
  }

  double lr() const override { return config_.relative_step ? 1.0 : config_.lr.value_or(kLr); }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  OptimizerNeed need() const override { return OptimizerNeed::kWhole; }

  std::vector<OptimizerStateSpec> state_specs() const override {
    using Layout = OptimizerStateSpec::Layout;
    std::vector<OptimizerStateSpec> specs = {{"exp_avg_sq_row", Layout::kRows, at::kFloat},
                                             {"exp_avg_sq_col", Layout::kColumns, at::kFloat},
                                             {"exp_avg_sq", Layout::kLikeParameter, at::kFloat}};
    if (config_.beta1) specs.push_back({"exp_avg", Layout::kLikeParameter, at::kFloat});
    return specs;
  }
  OptimizerStateSpec state_of(const OptimizerStateSpec& spec,
                              const ParameterSpec& parameter) const override {
    OptimizerStateSpec own = spec;
    const bool factored = parameter.dimensions.size() >= 2;
    const bool whole = spec.name == "exp_avg_sq";
    if (spec.name != "exp_avg" && whole == factored) own.layout = OptimizerStateSpec::Layout::kNone;
    return own;
  }

  void update(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      if (update.parameters[i].numel() > 0) update_one(update, i);
    }
  }

 private:
  double rate(const OptimizerUpdate& update, const at::Tensor& parameter) const {
    double rate = update.lr;
    if (config_.relative_step) {
      const auto step = static_cast<double>(update.step);
      const double most = config_.warmup_init ? 1e-6 * step : kLargestRelativeStep;
      rate *= std::min(most, 1 / std::sqrt(step));
    }
    if (config_.scale_parameter) rate *= std::max(config_.eps[1], rms(parameter));
    return rate;
  }

  /// The gradient divided by the root of the averaged squares.
  at::Tensor normalised(const OptimizerUpdate& update, std::size_t i,
                        const at::Tensor& gradient) const {
    const double decay = 1 - std::pow(static_cast<double>(update.step), config_.decay_rate);
    const at::Tensor square = gradient.square().add_(config_.eps[0]);
    if (const at::Tensor& average = update.states[2][i]; average.defined()) {
      average.mul_(decay).add_(square, 1 - decay);
      return average.rsqrt().mul_(gradient);
    }
    const at::Tensor& rows = update.states[0][i];
    const at::Tensor& columns = update.states[1][i];
    rows.mul_(decay).add_(square.mean(-1), 1 - decay);
    columns.mul_(decay).add_(square.mean(-2), 1 - decay);
    const at::Tensor row_factor = (rows / rows.mean(-1, /*keepdim=*/true)).rsqrt_().unsqueeze(-1);
    return at::mul(row_factor, columns.unsqueeze(-2).rsqrt()).mul_(gradient);
  }

  void update_one(OptimizerUpdate& update, std::size_t i) const {
    const at::Tensor& parameter = update.parameters[i];
    const at::Tensor gradient = update.gradients[i].to(at::kFloat);
    const at::Tensor value = parameter.to(at::kFloat);  // the parameter itself if it is float32
    const double lr = rate(update, value);
    at::Tensor step = normalised(update, i, gradient);
    step.mul_(lr / std::max(1.0, rms(step) / config_.clip_threshold));
    if (config_.beta1) {
      const at::Tensor& average = update.states[3][i];
      average.mul_(*config_.beta1).add_(step, 1 - *config_.beta1);
      step = average;
    }
    if (update.weight_decay != 0) value.mul_(1 - update.weight_decay * lr);
    value.sub_(step);
    if (!value.is_same(parameter)) parameter.copy_(value);
  }

  AdafactorConfig config_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Optimizer, Adafactor>("adafactor",
                                 "squared gradients as row and column means (Adafactor)")
      .alias("transformers.optimization.Adafactor")
      .alias("transformers.Adafactor");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.adafactor", "0.1.0", espalier::register_components)
