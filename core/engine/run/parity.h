#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/run/model_loader.h"

namespace espalier {

/// One comparison with the reference.
struct ParityRow {
  std::string name;
  double maximum_difference = 0.0;
  double relative_difference = 0.0;  ///< to the largest absolute value of the reference
  double limit = 0.0;                ///< on maximum_difference
  bool holds() const { return maximum_difference <= limit; }
};

/// Makes the model in a dtype ("float32", "bfloat16"); called once for each dtype that the
/// reference covers.
using ModelSource = std::function<LoadedModel(const std::string& dtype)>;

/// Compares a model with a reference dump: `input_ids`, `labels`, ... of one batch with `logits`,
/// `hidden.i`, `loss`, `grad.<name>`; `padded_left.*`, `padded_right.*`, `packed.*`;
/// `logits_bf16_compute`. Limits are relative to the largest value: logits and hidden states 1e-5
/// (recurrent models 5e-5), gradients 1e-4 of their tensor + 1e-6 of all, loss 1e-5.
std::vector<ParityRow> compare_with_reference(const ModelSource& source,
                                              const std::map<std::string, at::Tensor>& expected);

}  // namespace espalier
