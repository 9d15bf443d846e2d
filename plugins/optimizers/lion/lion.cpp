// Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms"): a step of one size for
// every element, in the direction of the sign of an interpolated momentum. One state.
#include <ATen/TensorOperators.h>

#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct LionConfig {
  double lr = 1e-4;
  std::vector<double> betas{0.9, 0.99};
  double weight_decay = 0.0;
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<LionConfig> schema() {
    return ConfigSchema<LionConfig>()
        .field("lr", &LionConfig::lr,
               "learning rate before the schedule; a third to a tenth of that for AdamW")
        .at_least(0)
        .field("betas", &LionConfig::betas,
               "share of the momentum in the direction of a step, and its decay rate")
        .length(2)
        .at_least(0)
        .less_than(1)
        .field("weight_decay", &LionConfig::weight_decay, "decoupled weight decay")
        .at_least(0)
        .field("param_groups", &LionConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

class Lion final : public Optimizer {
 public:
  using Config = LionConfig;
  explicit Lion(LionConfig config) : config_(std::move(config)) {}

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  std::vector<OptimizerStateSpec> state_specs() const override { return {{"exp_avg"}}; }

  // w <- w (1 - lr decay) - lr sign(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g
  void update(OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      const at::Tensor& parameter = update.parameters[i];
      const at::Tensor& gradient = update.gradients[i];
      const at::Tensor& momentum = update.states[0][i];
      parameter.mul_(1 - update.lr * update.weight_decay);
      parameter.sub_(momentum.mul(config_.betas[0]).add_(gradient, 1 - config_.betas[0]).sgn_(),
                     update.lr);
      momentum.mul_(config_.betas[1]).add_(gradient, 1 - config_.betas[1]);
    }
  }

 private:
  LionConfig config_;
};

void register_components(Registrar& registrar) {
  registrar.add<Optimizer, Lion>("lion", "steps by the sign of a momentum; one state (Lion)")
      .alias("lion_pytorch.Lion");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.lion", "0.1.0", espalier::register_components)
