// AdamW (decoupled weight decay, Loshchilov and Hutter 2019) and Adam (decay added to the gradient,
// Kingma and Ba 2015), on LibTorch's fused kernels: one pass over parameter, gradient and both
// moments.
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

#include "espalier/base/json.h"
#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"
#include "state_dtype.h"

namespace espalier {
namespace {

struct AdamConfig {
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;
  std::string state_dtype = "auto";
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<AdamConfig> schema() {
    return ConfigSchema<AdamConfig>()
        .field("lr", &AdamConfig::lr, "learning rate before the schedule")
        .at_least(0)
        .field("betas", &AdamConfig::betas, "decay rates of the first and second moment")
        .length(2)
        .at_least(0)
        .less_than(1)
        .field("eps", &AdamConfig::eps, "added to the root of the second moment")
        .at_least(0)
        .field("weight_decay", &AdamConfig::weight_decay,
               "weight decay; decoupled in adamw, part of the gradient in adam")
        .at_least(0)
        .field("state_dtype", &AdamConfig::state_dtype,
               "dtype of both moments; auto: that of the parameter. bfloat16 halves their memory "
               "beside float32 parameters and is rounded by chance, float32 is more exact beside "
               "bfloat16 parameters")
        .one_of({"auto", "float32", "bfloat16"})
        .field("param_groups", &AdamConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

class AdamBase : public Optimizer {
 public:
  using Config = AdamConfig;

  explicit AdamBase(AdamConfig config) : config_(std::move(config)) {}

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  std::vector<OptimizerStateSpec> state_specs() const override {
    std::optional<at::ScalarType> dtype;
    if (config_.state_dtype == "float32") dtype = at::kFloat;
    if (config_.state_dtype == "bfloat16") dtype = at::kBFloat16;
    return {{"exp_avg", OptimizerStateSpec::Layout::kLikeParameter, dtype},
            {"exp_avg_sq", OptimizerStateSpec::Layout::kLikeParameter, dtype}};
  }
  void update(OptimizerUpdate& update) final {
    if (update.states[0][0].scalar_type() == update.parameters[0].scalar_type())
      apply(update);
    else
      update_in_float(update, [this](OptimizerUpdate& part) { apply(part); });
  }

 protected:
  /// Parameters, gradients and states have one dtype.
  virtual void apply(OptimizerUpdate& update) = 0;
  const AdamConfig& config() const { return config_; }
  /// The kernel wants the step as one tensor a parameter; all share one.
  static std::vector<at::Tensor> steps(const OptimizerUpdate& update) {
    const at::Tensor step = at::full({}, static_cast<double>(update.step),
                                     update.parameters[0].options().dtype(at::kFloat));
    return std::vector<at::Tensor>(update.parameters.size(), step);
  }

 private:
  AdamConfig config_;
};

class AdamW final : public AdamBase {
 public:
  using AdamBase::AdamBase;
  void apply(OptimizerUpdate& update) override {
    at::_fused_adamw_(update.parameters, update.gradients, update.states[0], update.states[1], {},
                      steps(update), update.lr, config().betas[0], config().betas[1],
                      update.weight_decay, config().eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
};

class Adam final : public AdamBase {
 public:
  using AdamBase::AdamBase;
  void apply(OptimizerUpdate& update) override {
    at::_fused_adam_(update.parameters, update.gradients, update.states[0], update.states[1], {},
                     steps(update), update.lr, config().betas[0], config().betas[1],
                     update.weight_decay, config().eps,
                     /*amsgrad=*/false, /*maximize=*/false);
  }
};

/// What PyTorch's constructor takes beside our settings; `weight_decay` is its default.
Table torch_keys(double weight_decay) {
  Table keys = parse_json(R"({"amsgrad": {"only": false}, "maximize": {"only": false},
                              "fused": {"note": "the update is one loop here"},
                              "foreach": {"note": "the update is one loop here"},
                              "capturable": {"note": "says how the update is launched"},
                              "differentiable": {"only": false}})")
                   .as_table();
  Table defaults;
  defaults.set("weight_decay", weight_decay);
  keys.set("", std::move(defaults));
  return keys;
}

void register_components(Registrar& registrar) {
  registrar.add<Optimizer, AdamW>("adamw", "Adam with decoupled weight decay")
      .property("default_for", "optimizer")
      .alias("torch.optim.AdamW", torch_keys(0.01));
  registrar.add<Optimizer, Adam>("adam", "Adam; weight decay is added to the gradient (L2)")
      .alias("torch.optim.Adam", torch_keys(0));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.adam", "0.1.0", espalier::register_components)
