// Strategies and quantizers that break one promise each. `violates` names the check that has to
// find it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>

#include "espalier/nn/quantizer.h"
#include "espalier/sdk/parallel_strategy.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// Every rank holds the model; gradients are added up.
class Sound : public ParallelStrategy {
 public:
  DataShare data_share() const override { return {world().rank(), world().size()}; }
  void apply(Model& model) override {
    for (const auto& parameter : model.parts().parameters)
      world().all()->broadcast(parameter->value().detach(), 0, "a parameter")->wait();
  }
  void finish_gradients(Model& model) override {
    for (const auto& parameter : model.parts().parameters) {
      at::Tensor gradient = parameter->value().grad();
      if (!gradient.defined()) continue;
      world().all()->all_reduce(gradient, "a gradient")->wait();
      settle(gradient);
    }
  }
  void sum_over_data(const at::Tensor& numbers) override {
    world().all()->all_reduce(numbers, "sums")->wait();
  }
  at::Tensor full_value(const Parameter& parameter) override { return parameter.value(); }

 protected:
  virtual void settle(at::Tensor& /*gradient*/) {}
};

struct Halves final : Sound {
  void settle(at::Tensor& gradient) override { gradient.mul_(0.5); }
};

struct Averages final : Sound {
  void settle(at::Tensor& gradient) override { gradient.div_(world().size()); }
};

struct EverybodyWrites final : Sound {
  ParameterLayout layout(const Parameter& parameter) const override {
    return whole_layout(parameter, true);
  }
};

/// A weight in half precision.
class Half : public nn::WeightStorage {
 public:
  explicit Half(std::shared_ptr<Parameter> weight) : weight_(std::move(weight)) {}
  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override {
    return at::linear(input, dense(input.scalar_type()), bias);
  }
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override {
    return dense(dtype).index_select(0, ids);
  }
  at::Tensor dense(at::ScalarType dtype) const override { return weight_->value().to(dtype); }
  std::vector<std::shared_ptr<Parameter>> components() const override { return {weight_}; }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(weight_->value().nbytes());
  }

 private:
  std::shared_ptr<Parameter> weight_;
};

struct Doubled final : Half {
  using Half::Half;
  at::Tensor dense(at::ScalarType dtype) const override { return Half::dense(dtype) * 2; }
};

struct WithoutBias final : Half {
  using Half::Half;
  at::Tensor linear(const at::Tensor& input, const at::Tensor&) const override {
    return Half::linear(input, {});
  }
};

struct SaysHalf final : Half {
  using Half::Half;
  std::int64_t bytes() const override { return Half::bytes() / 2; }
};

template <class Storage>
class Quantizing final : public Quantizer {
 public:
  std::unique_ptr<nn::WeightStorage> hold(nn::Linear& linear,
                                          const at::Tensor& weight) const override {
    linear.weight()->set_trainable(false);
    linear.weight()->set_value(weight.to(at::kHalf));
    return std::make_unique<Storage>(linear.weight());
  }
};

/// Without values it forgets the dtype.
class ForgetsDtype final : public Quantizer {
 public:
  std::unique_ptr<nn::WeightStorage> hold(nn::Linear& linear,
                                          const at::Tensor& weight) const override {
    linear.weight()->set_trainable(false);
    linear.weight()->set_value(weight.is_meta() ? weight : weight.to(at::kHalf));
    return std::make_unique<Half>(linear.weight());
  }
  bool holds_without_values() const override { return true; }
};

template <class I, class T>
void add(Registrar& registrar, const char* name, const char* check) {
  registrar.add<I, T>(name, "Breaks one promise.").property("violates", check);
}

void register_components(Registrar& registrar) {
  add<ParallelStrategy, Halves>(registrar, "halves", "strategy.alone");
  add<ParallelStrategy, Averages>(registrar, "averages", "strategy.ranks");
  add<ParallelStrategy, EverybodyWrites>(registrar, "everybody_writes", "strategy.layout");
  add<Quantizer, Quantizing<Doubled>>(registrar, "doubled", "quantizer.weight");
  add<Quantizer, Quantizing<WithoutBias>>(registrar, "without_bias", "quantizer.product");
  add<Quantizer, Quantizing<SaysHalf>>(registrar, "says_half", "quantizer.memory");
  add<Quantizer, ForgetsDtype>(registrar, "forgets_dtype", "quantizer.without_values");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.strategies", "1.0.0", espalier::register_components)
