#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// y = x (scale w)^T + bias for a few rows, as when a text is continued: what it costs is reading w
/// once. x [rows, in] float32, bfloat16 or float16; w [out, in] in any floating dtype or int8;
/// bias [out] and scale [out] (one factor a row of w) may be undefined -> y [rows, out] in x's
/// dtype. Each row's result is the same whatever the other rows are.
ESPALIER_API at::Tensor decode_linear(const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& bias, const at::Tensor& scale = {});

/// True where a product with `x` is better done by decode_linear: few rows, and nothing recorded.
ESPALIER_API bool decodes(const at::Tensor& x);

}  // namespace espalier::ops
