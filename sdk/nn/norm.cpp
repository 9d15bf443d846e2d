#include "espalier/nn/norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/layer_norm.h>

#include <utility>

#include "espalier/base/error.h"
#include "espalier/ops/rms_norm.h"

namespace espalier::nn {

Norm::Norm(ModuleScope scope, const NormSpec& spec, Dimension size) : spec_(spec) {
  ESPALIER_ASSERT(spec.affine || spec.kind == NormKind::kLayer, "an RMSNorm has a weight");
  if (!spec.affine) return;
  const auto start =
      spec.weight_offset == 0 ? Initialisation::Kind::kOnes : Initialisation::Kind::kZeros;
  weight_ = scope.parameter("weight", {size}, {start, 0.0});
  if (spec.bias)
    bias_ = scope.parameter("bias", {std::move(size)}, {Initialisation::Kind::kZeros, 0.0});
}

at::Tensor Norm::forward(const at::Tensor& x) const {
  if (!weight_) return at::layer_norm(x, {x.size(-1)}, {}, {}, spec_.eps);
  const at::Tensor& weight = weight_->computed();
  if (spec_.kind == NormKind::kRms) return ops::rms_norm(x, weight, spec_.eps, spec_.weight_offset);
  at::Tensor scale = weight.to(x.scalar_type());
  if (spec_.weight_offset != 0) scale = scale + spec_.weight_offset;
  const at::Tensor shift = bias_ ? bias_->computed().to(x.scalar_type()) : at::Tensor();
  return at::layer_norm(x, {x.size(-1)}, scale, shift, spec_.eps);
}

PerHeadNorm::PerHeadNorm(ModuleScope scope, const std::string& name, double eps, Dimension heads,
                         std::int64_t head_dim)
    : eps_(eps) {
  const std::size_t placeholder = name.find("{}");
  const std::int64_t count = heads.size();
  std::string base = name;
  if (placeholder != std::string::npos) base.erase(placeholder - 1, 3);  // "norms.{}" -> "norms"
  const ParameterSpec spec{scope.qualified(base + ".weight"),
                           {std::move(heads), {{{"head_dim", head_dim, head_dim}}}},
                           {Initialisation::Kind::kOnes, 0.0}};
  if (placeholder == std::string::npos) {
    weight_ = scope.parameter(spec, identity_mapping(spec));
    return;
  }
  std::vector<std::string> names;
  for (std::int64_t head = 0; head < count; ++head) {
    std::string of_head = name;
    of_head.replace(placeholder, 2, std::to_string(head));
    names.push_back(scope.qualified(of_head + ".weight"));
  }
  weight_ = scope.parameter(spec, stacked_mapping(spec, names));
}

at::Tensor PerHeadNorm::forward(const at::Tensor& x) const {
  const at::Tensor normed = at::layer_norm(x.to(at::kFloat), {x.size(-1)}, {}, {}, eps_);
  return (normed * weight_->computed().to(at::kFloat)).to(x.scalar_type());
}

}  // namespace espalier::nn
