#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// y = x / sqrt(mean(x^2) + eps) * (offset + w), over the last dimension, computed in float32.
/// x [rows, columns], w [columns] -> y [rows, columns] in x's dtype. `offset` is 1 for families
/// that store w - 1. Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
ESPALIER_API at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                                 double offset = 0.0);

}  // namespace espalier::ops
