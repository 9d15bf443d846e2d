#include "ia3_module.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "espalier/peft/adapter_files.h"

namespace espalier::ia3 {

ScaledLinear::ScaledLinear(nn::Linear& linear, bool scales_input,
                           std::shared_ptr<const bool> enabled)
    : linear_(linear), scales_input_(scales_input), enabled_(std::move(enabled)) {
  const std::vector<Dimension>& shape = linear.weight()->spec().dimensions;
  const Dimension one{{{"one", 1, 1}}};
  scale_ = std::make_shared<Parameter>(
      ParameterSpec{peft::kTensorPrefix + linear.name() + ".ia3_l",
                    scales_input ? std::vector{one, shape[1]} : std::vector{shape[0], one},
                    {}});
}

/// Computed in the wider of the two dtypes, as PEFT does.
at::Tensor ScaledLinear::scaled(const at::Tensor& x) const {
  return (x * scale_->computed().flatten()).to(x.scalar_type());
}

at::Tensor ScaledLinear::prepare(const nn::Linear&, at::Tensor input) {
  return *enabled_ && scales_input_ ? scaled(input) : input;
}

at::Tensor ScaledLinear::apply(const nn::Linear&, const at::Tensor&, at::Tensor output) {
  return *enabled_ && !scales_input_ ? scaled(output) : output;
}

std::optional<std::size_t> ScaledLinear::dimension_along(nn::LinearSide side,
                                                         const Parameter&) const {
  const bool along = scales_input_ == (side == nn::LinearSide::kInputs);
  return along ? std::optional<std::size_t>(scales_input_ ? 1 : 0) : std::nullopt;
}

void ScaledLinear::merge(bool inverse) const {
  const at::NoGradGuard no_grad;
  const at::Tensor scale = scale_->value().detach().to(at::kFloat);
  const auto change = [&](Parameter& parameter, const at::Tensor& factor) {
    const at::Tensor value = parameter.value().detach().to(at::kFloat);
    parameter.set_value(
        (inverse ? value / factor : value * factor).to(parameter.value().scalar_type()));
  };
  change(*linear_.weight(), scale);
  if (!scales_input_ && linear_.bias() != nullptr) change(*linear_.bias(), scale.flatten());
}

}  // namespace espalier::ia3
