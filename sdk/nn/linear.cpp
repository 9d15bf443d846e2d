#include "espalier/nn/linear.h"

#include <utility>

namespace espalier::nn {

LinearExtension::~LinearExtension() = default;

at::Tensor LinearExtension::prepare(const Linear&, at::Tensor input) { return input; }

std::string LinearExtension::undivided(LinearSide) const {
  return "the adapter knows whole layers alone";
}

std::optional<std::size_t> LinearExtension::dimension_along(LinearSide, const Parameter&) const {
  return std::nullopt;
}

void LinearExtension::set_share(const LinearShare&) {}

Linear::Linear(ModuleScope scope, const LinearSpec& spec) : name_(scope.prefix()) {
  const Initialisation normal{Initialisation::Kind::kNormal, spec.initial_standard_deviation};
  weight_ = scope.parameter("weight", {spec.out, spec.in}, spec.weight_start.value_or(normal),
                            spec.transposed_on_disk);
  if (spec.bias) bias_ = scope.parameter("bias", {spec.out}, spec.bias_start);
  storage_ = std::make_unique<DenseWeight>(weight_);
  scope.parts().linears.push_back(this);
}

Linear::Linear(ModuleScope scope, std::shared_ptr<Parameter> tied_weight, bool bias)
    : name_(scope.prefix()), weight_(std::move(tied_weight)) {
  scope.share(weight_);
  if (bias) {
    bias_ = scope.parameter("bias", {weight_->spec().dimensions[0]},
                            {Initialisation::Kind::kZeros, 0.0});
  }
  storage_ = std::make_unique<DenseWeight>(weight_);
  scope.parts().linears.push_back(this);
}

at::Tensor Linear::forward(const at::Tensor& input) const {
  const at::Tensor output = forward_share(input);
  return redistribution_.output ? redistribution_.output(output) : output;
}

at::Tensor Linear::forward_share(const at::Tensor& input) const {
  at::Tensor local = redistribution_.input ? redistribution_.input(input) : input;
  for (const auto& extension : extensions_) local = extension->prepare(*this, std::move(local));
  at::Tensor output = storage_->linear(local, bias_ ? bias_->computed() : at::Tensor());
  for (const auto& extension : extensions_)
    output = extension->apply(*this, local, std::move(output));
  return output;
}

}  // namespace espalier::nn
