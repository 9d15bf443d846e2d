#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "espalier/ops/cross_entropy.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Output projection and cross entropy of `rows_per_chunk` rows at a time. Where a gradient is
/// wanted it is computed in the same pass, so that no chunk's logits outlive it: memory of the
/// logits is 3 x rows_per_chunk x vocab x 4 bytes whatever the number of rows, and each product is
/// computed once. A trainable projection has one more temporary of its size.
/// hidden [rows, embed], labels [rows] int64 without ignored ones -> scalar float32 sum. Gradients
/// go to `hidden` and to all parameters of the head: weight, bias, extensions.
at::Tensor fused_linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& labels,
                                      Head& head, const ops::CrossEntropyOptions& options,
                                      std::int64_t rows_per_chunk);

}  // namespace espalier
