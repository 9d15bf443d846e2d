#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// What decides how much memory a step takes.
struct MemoryPlanInput {
  std::int64_t parameter_bytes = 0;
  std::int64_t trainable_bytes = 0;  ///< of the parameters that get gradients
  std::int64_t optimizer_bytes = 0;
  std::int64_t tied_bytes = 0;     ///< of a trained table that is the output projection as well
  std::int64_t tokens = 0;         ///< real tokens of the largest micro-batch
  std::int64_t rows = 0;           ///< of its hidden states; fewer where documents share them
  std::int64_t label_tokens = 0;   ///< of them with a label
  std::int64_t compute_bytes = 4;  ///< of one activation
  bool accumulates = false;        ///< several micro-batches a step
  ModelShape shape;
};

/// Bytes by purpose at the peak of a step.
struct MemoryPlan {
  std::int64_t parameters = 0;
  std::int64_t gradients = 0;
  std::int64_t optimizer = 0;
  std::int64_t activations = 0;
  std::int64_t logits = 0;
  std::int64_t program = 0;  ///< libraries, tokenizer, buffers
  /// The gradients that are there while all activations are: of all with accumulation, of the head
  /// otherwise. Activations go as the other gradients come.
  std::int64_t early_gradients = 0;
  /// Beside all gradients at the end of the backward pass: a tied table's second one, and the sum.
  std::int64_t late_copies = 0;

  std::int64_t total() const {
    return parameters + optimizer + program +
           std::max(gradients + late_copies, activations + logits + early_gradients);
  }
  /// "memory plan: parameters 538 MB, ..., total 2.9 GB"
  std::string to_string() const;
  Value to_value() const;
};

MemoryPlan plan_memory(const MemoryPlanInput& input);

}  // namespace espalier
