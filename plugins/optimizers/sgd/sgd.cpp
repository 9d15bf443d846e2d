// Stochastic gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form: the first
// buffer is the first gradient), on LibTorch's fused kernel.
#include <ATen/ops/_fused_sgd.h>

#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct SgdConfig {
  double lr = 1e-3;
  double momentum = 0.0;
  double dampening = 0.0;
  bool nesterov = false;
  double weight_decay = 0.0;
  std::vector<ParameterGroupConfig> param_groups;

  static ConfigSchema<SgdConfig> schema() {
    return ConfigSchema<SgdConfig>()
        .field("lr", &SgdConfig::lr, "learning rate before the schedule")
        .at_least(0)
        .field("momentum", &SgdConfig::momentum, "share of the last update that is kept")
        .at_least(0)
        .field("dampening", &SgdConfig::dampening,
               "share of the gradient that does not enter the momentum")
        .at_least(0)
        .at_most(1)
        .field("nesterov", &SgdConfig::nesterov, "look ahead; needs momentum and no dampening")
        .field("weight_decay", &SgdConfig::weight_decay, "added to the gradient (L2)")
        .at_least(0)
        .field("param_groups", &SgdConfig::param_groups,
               "parameters with their own learning rate or weight decay");
  }
};

class Sgd final : public Optimizer {
 public:
  using Config = SgdConfig;

  explicit Sgd(SgdConfig config) : config_(std::move(config)) {
    if (config_.nesterov && (config_.momentum <= 0 || config_.dampening != 0)) {
      throw_bad_input("nesterov needs momentum and no dampening",
                      "momentum " + std::to_string(config_.momentum) + ", dampening " +
                          std::to_string(config_.dampening),
                      "momentum > 0 and dampening 0", "optimizer.nesterov");
    }
  }

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<ParameterGroupConfig>& groups() const override { return config_.param_groups; }
  std::vector<OptimizerStateSpec> state_specs() const override {
    if (config_.momentum == 0) return {};
    return {{"momentum_buffer", OptimizerStateSpec::Layout::kLikeParameter}};
  }
  void update(OptimizerUpdate& update) override {
    at::_fused_sgd_(update.parameters, update.gradients,
                    config_.momentum == 0 ? at::TensorList() : update.states[0],
                    update.weight_decay, config_.momentum, update.lr, config_.dampening,
                    config_.nesterov,
                    /*maximize=*/false, /*is_first_step=*/update.step == 1);
  }

 private:
  SgdConfig config_;
};

void register_components(Registrar& registrar) {
  registrar.add<Optimizer, Sgd>("sgd", "stochastic gradient descent, with momentum if asked for")
      .alias("torch.optim.SGD");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.sgd", "0.1.0", espalier::register_components)
