#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/sdk/dataset.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Log probabilities of the labelled tokens of each answer, summed, and their numbers; [pairs]
/// each.
struct AnswerScores {
  at::Tensor chosen;
  at::Tensor rejected;
  at::Tensor chosen_tokens;
  at::Tensor rejected_tokens;
};

/// Log probability of the labelled tokens of each document, summed, and their numbers; [documents].
struct DocumentScores {
  at::Tensor sums;
  at::Tensor tokens;
};

/// Number of pairs in a batch whose documents are, in turn, a chosen and a rejected conversation.
/// Throws Error(kBadInput) for a batch that is not made so.
std::int64_t count_pairs(const Batch& batch);

/// One forward pass. Logits of labelled rows alone are computed, in float32.
DocumentScores score_documents(Model& model, const Batch& batch);

/// The same for a batch of pairs.
AnswerScores score_answers(Model& model, const Batch& batch);

}  // namespace espalier
