#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "espalier/sdk/adapter.h"
#include "espalier/sdk/model.h"

namespace espalier {

struct ScoreOptions {
  bool logits = false;
  bool gradients = false;
  bool shifted_labels = false;  ///< labels are aligned already; otherwise they are shifted by one
                                ///< inside each document
};

/// What a model takes of a batch of named tensors.
ModelInput model_input(const std::map<std::string, at::Tensor>& tensors);

/// Adds `grad.<name>` of everything that is trained, in the layout of the checkpoint.
void add_all_gradients(Model& model, const Adapter* adapter,
                       std::map<std::string, at::Tensor>& results);

/// Loss, logits and gradients of one batch of named tensors (input_ids, attention_mask,
/// position_ids, cu_seqlens, labels). Returns `loss`, `loss_sum`, `num_label_tokens` where labels
/// were given, `logits` [batch, seq, vocab] float32 (zeros at padding), and `grad.<name>` of the
/// mean loss in the layout of the checkpoint, for an adapter those of its tensors alone.
ESPALIER_API std::map<std::string, at::Tensor> score(Model& model,
                                                     const std::map<std::string, at::Tensor>& input,
                                                     const ScoreOptions& options,
                                                     const Adapter* adapter = nullptr);

}  // namespace espalier
