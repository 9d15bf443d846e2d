#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// A loss over labelled positions. Returns sums; the trainer divides by the weight of the whole
/// step, so that the gradient does not depend on how a batch was cut. Inputs are borrowed and stay
/// as they are; the result carries the gradient. One thread at a time, and the backward pass may
/// run on another. Throws Error(kBadInput) for labels that it can't take.
class ESPALIER_API Loss {
 public:
  static constexpr InterfaceId kInterface{"Loss", 1};

  Loss() = default;
  Loss(const Loss&) = delete;
  Loss& operator=(const Loss&) = delete;
  virtual ~Loss();

  /// hidden [tokens, embed], labels [tokens] int64 (aligned: labels[t] is what position t predicts;
  /// -100 ignored) -> scalar float32 sum. Called inside the head's scope.
  virtual at::Tensor from_hidden(const at::Tensor& hidden, const at::Tensor& labels,
                                 Head& head) = 0;
  /// logits [rows, vocab], labels [rows] -> scalar float32 sum.
  virtual at::Tensor from_logits(const at::Tensor& logits, const at::Tensor& labels) = 0;
};

}  // namespace espalier
