#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// What is known of a softmax of which some tiles of columns were seen: of the first none, the
/// maximum is minus infinity and the sum 0. Float32, [rows] each.
struct RunningSoftmax {
  at::Tensor maximum;
  at::Tensor sum;  ///< of exp(logit - maximum)
};

struct SoftmaxTile {
  at::Tensor values;       ///< exp(logit - maximum), [rows, columns] in the dtype of the logits
  RunningSoftmax running;  ///< with this tile
  at::Tensor factor;       ///< [rows] what sums over earlier tiles are to be multiplied by
};

/// One more tile: logits [rows, columns] in a floating dtype. Not recorded for autograd. The values
/// may be written over the logits.
ESPALIER_API SoftmaxTile softmax_tile(const at::Tensor& logits, const RunningSoftmax& before);

}  // namespace espalier::ops
