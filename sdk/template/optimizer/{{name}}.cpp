// Lion: the sign of a mixture of momentum and gradient.
// Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms".
#include <ATen/TensorOperators.h>
#include <espalier/sdk/optimizer.h>
#include <espalier/sdk/plugin.h>

namespace {

struct {{Name}}Config {
  double lr = 1e-4;
  double weight_decay = 0.0;
  std::vector<double> betas = {0.9, 0.99};
  std::vector<espalier::ParameterGroupConfig> param_groups;

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>()
        .field("lr", &{{Name}}Config::lr, "learning rate")
        .at_least(0)
        .field("weight_decay", &{{Name}}Config::weight_decay, "decay of the weights, apart from the step")
        .at_least(0)
        .field("betas", &{{Name}}Config::betas, "of the step, and of the momentum")
        .length(2)
        .at_least(0)
        .less_than(1)
        .field("param_groups", &{{Name}}Config::param_groups, "parameters that are treated otherwise");
  }
};

class {{Name}} final : public espalier::Optimizer {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(Config config) : config_(std::move(config)) {}

  double lr() const override { return config_.lr; }
  double weight_decay() const override { return config_.weight_decay; }
  const std::vector<espalier::ParameterGroupConfig>& groups() const override {
    return config_.param_groups;
  }
  // The host makes these tensors, shards them, saves them and gives them back.
  std::vector<espalier::OptimizerStateSpec> state_specs() const override { return {{"exp_avg"}}; }

  void update(espalier::OptimizerUpdate& update) override {
    for (std::size_t i = 0; i < update.parameters.size(); ++i) {
      at::Tensor& parameter = update.parameters[i];
      at::Tensor& average = update.states[0][i];
      const at::Tensor& gradient = update.gradients[i];
      if (update.weight_decay > 0) parameter.mul_(1 - update.lr * update.weight_decay);
      const double beta = config_.betas[0];
      parameter.add_((average * beta + gradient * (1 - beta)).sign(), -update.lr);
      average.mul_(config_.betas[1]).add_(gradient, 1 - config_.betas[1]);
    }
  }

 private:
  Config config_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Optimizer, {{Name}}>("{{name}}", "Lion: steps of one size, by sign");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
