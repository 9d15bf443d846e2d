#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/nn/linear.h"
#include "espalier/nn/module_scope.h"
#include "espalier/nn/weight_storage.h"

namespace espalier::nn {

class Embedding;

/// Stands among ids for a token that an adapter puts into the text: its vector comes from an
/// extension.
inline constexpr std::int64_t kPromptToken = -1;

/// Adds to what an Embedding looks up (LoRA, prompt tuning). Shared and run as a LinearExtension.
class ESPALIER_API EmbeddingExtension {
 public:
  EmbeddingExtension() = default;
  EmbeddingExtension(const EmbeddingExtension&) = delete;
  EmbeddingExtension& operator=(const EmbeddingExtension&) = delete;
  virtual ~EmbeddingExtension();

  /// ids [tokens] int64, output [tokens, embed] so far -> [tokens, embed].
  virtual at::Tensor apply(const Embedding& embedding, const at::Tensor& ids,
                           at::Tensor output) = 0;
  virtual std::vector<std::shared_ptr<Parameter>> parameters() const = 0;
  /// Whether it replaces the rows of kPromptToken, which hold those of id 0.
  virtual bool fills_prompt_tokens() const { return false; }
};

/// A table [rows, embed]; ids [tokens] -> [tokens, embed]. What is looked up at `padding_id`
/// carries no gradient to the table, as with PyTorch's padding_idx.
class ESPALIER_API Embedding {
 public:
  Embedding(ModuleScope scope, Dimension rows, Dimension columns, double initial_standard_deviation,
            std::optional<std::int64_t> padding_id = std::nullopt);
  Embedding(const Embedding&) = delete;
  Embedding& operator=(const Embedding&) = delete;

  /// ids [tokens] int64 -> [tokens, embed] in `dtype`. Throws Error(kBadInput) when an id is
  /// outside the table.
  at::Tensor forward(const at::Tensor& ids, at::ScalarType dtype) const;

  const std::string& name() const { return name_; }
  const std::shared_ptr<Parameter>& weight() const { return weight_; }
  const WeightStorage& storage() const { return *storage_; }
  /// Returns the storage that was there.
  std::unique_ptr<WeightStorage> set_storage(std::unique_ptr<WeightStorage> storage) {
    return std::exchange(storage_, std::move(storage));
  }
  void add_extension(std::shared_ptr<EmbeddingExtension> extension) {
    extensions_.push_back(std::move(extension));
  }
  void clear_extensions() { extensions_.clear(); }
  const std::vector<std::shared_ptr<EmbeddingExtension>>& extensions() const { return extensions_; }
  /// Whether an extension takes kPromptToken among ids.
  bool has_prompt_tokens() const;
  RedistributionSeat& redistribution() { return redistribution_; }

 private:
  std::string name_;
  std::optional<std::int64_t> padding_id_;
  std::shared_ptr<Parameter> weight_;
  std::unique_ptr<WeightStorage> storage_;
  std::vector<std::shared_ptr<EmbeddingExtension>> extensions_;
  RedistributionSeat redistribution_;
};

}  // namespace espalier::nn
