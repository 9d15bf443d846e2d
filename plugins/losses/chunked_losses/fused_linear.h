#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "espalier/ops/cross_entropy.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Output projection and cross entropy, with the gradients in the same pass where they are wanted,
/// and never all logits at once. A frozen projection that is one plain weight goes by tiles of the
/// vocabulary (tiled_cross_entropy). Others go by chunks of rows whose logits take `chunk_bytes` in
/// float32; where no kernel of the cross entropy writes the gradient over the logits, about three
/// times that is used. A trained projection that is more than one plain weight has a temporary of
/// its size besides its gradient.
/// hidden [rows, embed], labels [rows] int64 without ignored ones -> scalar float32 sum. Gradients
/// go to `hidden` and to all parameters of the head: weight, bias, extensions.
at::Tensor fused_linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& labels,
                                      Head& head, const ops::CrossEntropyOptions& options,
                                      std::int64_t chunk_bytes);

}  // namespace espalier
