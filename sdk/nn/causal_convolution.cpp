#include "espalier/nn/causal_convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

namespace espalier::nn {
namespace {

/// [tokens, 1]: 1 where a token has `distance` tokens of its document before it, otherwise 0.
at::Tensor has_predecessor(const TokenLayout& layout, std::int64_t distance,
                           const at::TensorOptions& options) {
  at::Tensor mask = at::ones({layout.tokens(), 1}, options);
  for (std::int64_t d = 0; d < layout.documents(); ++d) {
    const std::int64_t begin = layout.document_starts[static_cast<std::size_t>(d)];
    const std::int64_t end = layout.document_starts[static_cast<std::size_t>(d) + 1];
    mask.narrow(0, begin, std::min(distance, end - begin)).zero_();
  }
  return mask;
}

}  // namespace

CausalConvolution::CausalConvolution(ModuleScope scope, const Dimension& channels,
                                     std::int64_t kernel, bool bias)
    : kernel_(kernel) {
  const Dimension one{{{"", 1, 1}}};
  const Dimension taps{{{"kernel", kernel, kernel}}};
  const Initialisation uniform{.kind = Initialisation::Kind::kUniform,
                               .bound = 1.0 / std::sqrt(static_cast<double>(kernel))};
  weight_ = scope.parameter("weight", {channels, one, taps}, uniform);
  if (bias) bias_ = scope.parameter("bias", {channels}, {});
}

at::Tensor CausalConvolution::forward(const at::Tensor& x, const TokenLayout& layout) const {
  const at::Tensor weight = weight_->computed().squeeze(1).to(x.scalar_type());
  at::Tensor y = x * weight.select(1, kernel_ - 1);
  for (std::int64_t distance = 1; distance < std::min(kernel_, x.size(0)); ++distance) {
    const at::Tensor earlier =
        at::constant_pad_nd(x.narrow(0, 0, x.size(0) - distance), {0, 0, distance, 0});
    const at::Tensor mask = has_predecessor(layout, distance, x.options());
    y = y + earlier * mask * weight.select(1, kernel_ - 1 - distance);
  }
  return bias_ ? y + bias_->computed().to(x.scalar_type()) : y;
}

at::Tensor CausalConvolution::forward_from(const at::Tensor& x, at::Tensor& history) const {
  const std::int64_t past = kernel_ - 1;
  if (!history.defined()) history = at::zeros({past, x.size(1)}, x.options());
  const at::Tensor all = at::cat({history, x});
  TokenLayout whole;
  whole.document_starts = {0, all.size(0)};
  history = all.narrow(0, all.size(0) - past, past).clone();
  return forward(all, whole).narrow(0, past, x.size(0));
}

}  // namespace espalier::nn
