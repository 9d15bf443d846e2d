// Data parallelism in its plainest form: every rank holds the model and computes its share of the
// rows; gradients are added up at the end of each step.
#include <espalier/sdk/parallel_strategy.h>
#include <espalier/sdk/plugin.h>

namespace {

class {{Name}} final : public espalier::ParallelStrategy {
 public:
  // The rows of a step are cut into as many shares as there are ranks.
  espalier::DataShare data_share() const override { return {world().rank(), world().size()}; }

  // All ranks start with the values of rank 0.
  void apply(espalier::Model& model) override {
    for (const auto& parameter : parameters_of(model))
      world().all()->broadcast(parameter->value().detach(), 0, "a parameter")->wait();
  }

  // A sum, not a mean: the trainer has divided by the weight of the whole step. Every rank makes the
  // same calls, so one without a gradient brings zeros.
  void finish_gradients(espalier::Model& model) override {
    for (const auto& parameter : parameters_of(model)) {
      if (!parameter->trainable()) continue;
      at::Tensor value = parameter->value();
      if (!value.grad().defined()) value.mutable_grad() = value.detach().new_zeros(value.sizes());
      world().all()->all_reduce(value.grad(), "a gradient")->wait();
    }
  }

  void sum_over_data(const at::Tensor& numbers) override {
    world().all()->all_reduce(numbers, "sums over the data")->wait();
  }

  at::Tensor full_value(const espalier::Parameter& parameter) override { return parameter.value(); }

 private:
  // Those of the model and those that adapters added.
  static std::vector<std::shared_ptr<espalier::Parameter>> parameters_of(espalier::Model& model) {
    auto all = model.parts().parameters;
    const auto& added = model.parts().added_parameters;
    all.insert(all.end(), added.begin(), added.end());
    return all;
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::ParallelStrategy, {{Name}}>("{{name}}", "gradients added up over ranks");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
