#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// output += scale (x a^T) b^T, in place and recorded for autograd: the update of a linear layer by
/// an adapter of low rank. output [rows, out], x [rows, in], a [r, in], b [out, r], all in one
/// floating dtype. Hu et al. 2021, "LoRA".
///
/// As an op: inputs output, x, a, b; numbers scale; integers whether the output may be written
/// over.
ESPALIER_API at::Tensor add_low_rank(at::Tensor output, const at::Tensor& x, const at::Tensor& a,
                                     const at::Tensor& b, double scale);

}  // namespace espalier::ops
