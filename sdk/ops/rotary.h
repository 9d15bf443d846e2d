#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// Rotates the first 2 * cos.size(1) channels of each head by the angles of its token; the rest
/// passes through. x [tokens, heads, head_dim]; cos, sin [tokens, rotary_dim / 2] float32 -> like
/// x, computed in float32. Channel i is paired with i + rotary_dim / 2 ("rotate half"), or with its
/// neighbour where `interleaved`. Su et al. 2021, "RoFormer".
ESPALIER_API at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                               bool interleaved = false);

}  // namespace espalier::ops
