#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "engine/run/model_loader.h"

namespace espalier {

struct TaskScoreOptions {
  bool logits = false;
  bool gradients = false;
  std::string pooling = "mean";  ///< of an embedding: "mean" or "last"
  bool normalize = false;        ///< an embedding of length 1
};

/// What score() is for models with the head of a task. `logits` are [documents, labels] of texts,
/// [batch, seq, labels] of tokens, and an embedding model gives `embeddings` [documents, embed],
/// all float32. `labels` are [documents] classes or real numbers, [documents, labels] for several
/// of them at once, or [batch, seq] of tokens, aligned, -100 ignored. The loss is that of
/// transformers: cross entropy, squared error for one label, binary cross entropy for several, by
/// `problem_type` or, where it says nothing, by the labels.
std::map<std::string, at::Tensor> score_task(const LoadedModel& loaded,
                                             const std::map<std::string, at::Tensor>& input,
                                             const TaskScoreOptions& options);

}  // namespace espalier
