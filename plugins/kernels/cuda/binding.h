// What the bindings of this pack share.
#pragma once

#include "espalier/ops/op.h"

namespace espalier::cuda {

inline constexpr int kPriority = 100;
inline constexpr const char* kName = "cuda";

/// softmax(q k^T) v inside documents by LibTorch's flash attention; for 16-bit dtypes.
ops::OpImplementation document_attention_op();

}  // namespace espalier::cuda
