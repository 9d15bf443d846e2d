#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "espalier/nn/module_scope.h"

namespace espalier::nn {

/// A convolution of each channel over the tokens up to its own, inside documents:
///   y[t, c] = sum_j w[c, j] x[t - (kernel - 1) + j, c] + b[c],  zeros before a document.
/// x [tokens, channels] -> same shape. The weight is stored as [channels, 1, kernel] (Conv1d).
class ESPALIER_API CausalConvolution {
 public:
  CausalConvolution(ModuleScope scope, const Dimension& channels, std::int64_t kernel, bool bias);

  at::Tensor forward(const at::Tensor& x, const TokenLayout& layout) const;
  /// One document that goes on, in inference: `history` [kernel - 1, channels], or undefined at its
  /// start, is replaced by the last rows.
  at::Tensor forward_from(const at::Tensor& x, at::Tensor& history) const;

 private:
  std::int64_t kernel_;
  std::shared_ptr<Parameter> weight_;
  std::shared_ptr<Parameter> bias_;
};

}  // namespace espalier::nn
