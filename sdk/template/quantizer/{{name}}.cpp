// Weights of linears in half precision: half the memory of float32, and small errors.
#include <ATen/ops/linear.h>
#include <espalier/nn/quantizer.h>
#include <espalier/sdk/plugin.h>

namespace {

// What stands in the place of a weight [out, in]. The numbers lie in the linear's own parameter.
class HalfWeight final : public espalier::nn::WeightStorage {
 public:
  explicit HalfWeight(std::shared_ptr<espalier::Parameter> weight) : weight_(std::move(weight)) {}

  // Gradients flow to the input; the weight is frozen.
  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override {
    return at::linear(input, dense(input.scalar_type()), bias);
  }
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override {
    return weight_->value().index_select(0, ids).to(dtype);
  }
  at::Tensor dense(at::ScalarType dtype) const override { return weight_->value().to(dtype); }
  std::vector<std::shared_ptr<espalier::Parameter>> components() const override {
    return {weight_};
  }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(weight_->value().nbytes());
  }

 private:
  std::shared_ptr<espalier::Parameter> weight_;
};

class {{Name}} final : public espalier::Quantizer {
 public:
  // Asked for each linear while its weight is read. nullptr would leave it as it is.
  std::unique_ptr<espalier::nn::WeightStorage> hold(espalier::nn::Linear& linear,
                                                    const at::Tensor& weight) const override {
    linear.weight()->set_trainable(false);
    linear.weight()->set_value(weight.to(at::kHalf));
    return std::make_unique<HalfWeight>(linear.weight());
  }
  // True where hold() uses operators alone that need no values: ranks that share a model then
  // never hold all of it.
  bool holds_without_values() const override { return true; }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Quantizer, {{Name}}>("{{name}}", "weights of linears in half precision");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
