#include "espalier/nn/norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/layer_norm.h>

#include <utility>

#include "espalier/ops/rms_norm.h"

namespace espalier::nn {

Norm::Norm(ModuleScope scope, const NormSpec& spec, Dimension size) : spec_(spec) {
  const auto start =
      spec.weight_offset == 0 ? Initialisation::Kind::kOnes : Initialisation::Kind::kZeros;
  weight_ = scope.parameter("weight", {size}, {start, 0.0});
  if (spec.bias)
    bias_ = scope.parameter("bias", {std::move(size)}, {Initialisation::Kind::kZeros, 0.0});
}

at::Tensor Norm::forward(const at::Tensor& x) const {
  const at::Tensor& weight = weight_->computed();
  if (spec_.kind == NormKind::kRms) return ops::rms_norm(x, weight, spec_.eps, spec_.weight_offset);
  at::Tensor scale = weight.to(x.scalar_type());
  if (spec_.weight_offset != 0) scale = scale + spec_.weight_offset;
  const at::Tensor shift = bias_ ? bias_->computed().to(x.scalar_type()) : at::Tensor();
  return at::layer_norm(x, {x.size(-1)}, scale, shift, spec_.eps);
}

}  // namespace espalier::nn
