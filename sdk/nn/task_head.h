#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "espalier/sdk/model.h"

namespace espalier::nn {

/// What stands on top of a decoder.
enum class Task {
  kCausalLm,                ///< scores over the vocabulary, the model's own head
  kSequenceClassification,  ///< num_labels scores of each text, read at its last token
  kTokenClassification,     ///< num_labels scores of each token
  kEmbedding                ///< nothing: the hidden states are what is wanted
};

/// `decoder` with the head of `task` in place of its own: `name`.weight [num_labels, embed], and a
/// bias for tokens, as the classes of transformers have them. The decoder's own head leaves the
/// parts, unless it is the embedding. Before any parameter has a value. Works on any model.
ESPALIER_API std::shared_ptr<Model> with_task_head(std::shared_ptr<Model> decoder, Task task,
                                                   const std::string& name, std::int64_t num_labels,
                                                   double initializer_range);

}  // namespace espalier::nn
