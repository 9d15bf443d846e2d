#include "espalier/nn/embedding.h"

#include <ATen/ops/where.h>

#include <algorithm>
#include <utility>

#include "espalier/base/error.h"

namespace espalier::nn {

EmbeddingExtension::~EmbeddingExtension() = default;

Embedding::Embedding(ModuleScope scope, Dimension rows, Dimension columns,
                     double initial_standard_deviation, std::optional<std::int64_t> padding_id)
    : name_(scope.prefix()), padding_id_(padding_id) {
  weight_ = scope.parameter("weight", {std::move(rows), std::move(columns)},
                            {Initialisation::Kind::kNormal, initial_standard_deviation});
  storage_ = std::make_unique<DenseWeight>(weight_);
  scope.parts().embeddings.push_back(this);
}

bool Embedding::has_prompt_tokens() const {
  return std::any_of(extensions_.begin(), extensions_.end(),
                     [](const auto& extension) { return extension->fills_prompt_tokens(); });
}

at::Tensor Embedding::forward(const at::Tensor& ids, at::ScalarType dtype) const {
  const std::int64_t rows = weight_->spec().dimensions[0].size();
  const bool prompted = has_prompt_tokens();
  if (ids.numel() > 0) {
    const std::int64_t lowest = ids.min().item<std::int64_t>();
    const std::int64_t highest = ids.max().item<std::int64_t>();
    const std::int64_t least = prompted ? kPromptToken : 0;
    if (lowest < least || highest >= rows) {
      throw_bad_input(
          "an id is outside the table of '" + name_ + "'",
          std::to_string(lowest < least ? lowest : highest), "0 to " + std::to_string(rows - 1),
          name_, "the tokenizer and the model do not belong together, or a sequence is too long");
    }
  }
  const at::Tensor local = redistribution_.input ? redistribution_.input(ids) : ids;
  at::Tensor output = storage_->rows(prompted ? local.clamp_min(0) : local, dtype);
  if (padding_id_ && output.requires_grad()) {
    const at::Tensor padding = local.eq(*padding_id_);
    if (padding.any().item<bool>())
      output = at::where(padding.unsqueeze(-1), output.detach(), output);
  }
  for (const auto& extension : extensions_)
    output = extension->apply(*this, local, std::move(output));
  return redistribution_.output ? redistribution_.output(output) : output;
}

}  // namespace espalier::nn
