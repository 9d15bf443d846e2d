#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "espalier/ops/cross_entropy.h"

namespace espalier {

struct TiledCrossEntropy {
  double sum = 0;
  at::Tensor hidden_gradient;  ///< [rows, embed] in the dtype of `hidden`; undefined: not wanted
};

/// Cross entropy of the logits hidden x weight^T without a soft cap, and its gradient for `hidden`,
/// in one pass over the weight and without the logits: a tile of the vocabulary at a time with a
/// running maximum, as attention is computed whose keys and values are the weight. Two products, as
/// with whole logits. hidden [rows, embed], labels [rows] int64 without ignored ones, weight
/// [vocab, embed] of the same dtype and device. Memory beyond the gradient (float32 while it is
/// summed): about two tiles of at most `bytes` each, on a CPU so few that they stay in its cache.
TiledCrossEntropy tiled_cross_entropy(const at::Tensor& hidden, const at::Tensor& labels,
                                      const at::Tensor& weight,
                                      const ops::CrossEntropyOptions& options, bool wants_gradient,
                                      std::int64_t bytes);

}  // namespace espalier
