#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// One linear map a group of rows: y[r] = W[e] x[r] + b[e] for offsets[e] <= r < offsets[e + 1].
/// x [rows, in], sorted by group; weight [groups, out, in], bias [groups, out] or undefined;
/// offsets [groups + 1] int64 on the CPU, rising from 0 to rows -> y [rows, out] in x's dtype. One
/// product a group that has rows: the weights of the others are not read, and their gradient is
/// zero.
ESPALIER_API at::Tensor grouped_linear(const at::Tensor& x, const at::Tensor& weight,
                                       const at::Tensor& bias, const at::Tensor& offsets);

}  // namespace espalier::ops
