#pragma once

#include "espalier/ops/op.h"
#include "espalier/sdk/model.h"

namespace espalier::ops {

struct CrossEntropyOptions {
  double label_smoothing = 0.0;  ///< share of the target spread evenly over the vocabulary
  double z_loss = 0.0;           ///< weight of logsumexp(logits)^2
  double soft_cap = 0.0;         ///< logits become cap * tanh(logits / cap) first; 0: off
  /// The backward pass may write the gradient over the logits, which nobody reads again. Autograd
  /// refuses where the op that made them kept them. With a share it changes nothing.
  bool overwrites_logits = false;
};

/// Summed cross entropy over the rows whose label is not -100, in float32 whatever the dtype of the
/// logits. logits [rows, vocab], labels [rows] int64 -> scalar float32. No label at all gives 0
/// with a zero gradient.
ESPALIER_API at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                      const CrossEntropyOptions& options = {});

/// The same where each rank has the logits of a run of the vocabulary: logits [rows, count of the
/// share], labels and result the same on all ranks. No rank sees the others' logits: two numbers a
/// row, three with smoothing, are gathered. `share` outlives the graph; nullptr: logits are whole.
ESPALIER_API at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                      const CrossEntropyOptions& options, const AxisShare* share);

/// Throws Error(kBadInput) for labels outside 0..vocab-1 that are not -100.
ESPALIER_API void check_labels(const at::Tensor& labels, std::int64_t vocab);

/// Of the logits of hidden rows [rows, embed], whole or shared as the head has them.
ESPALIER_API at::Tensor cross_entropy(Head& head, const at::Tensor& hidden_rows,
                                      const at::Tensor& labels, const CrossEntropyOptions& options);

}  // namespace espalier::ops
