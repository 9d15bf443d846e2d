#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Texts that grow token by token, read by a model side by side. Keys and values are kept where the
/// model allows; otherwise every step reads the texts again.
class ESPALIER_API TextRunner {
 public:
  /// The model outlives this object.
  explicit TextRunner(Model& model);

  /// Begins with `texts`, each of at least one token. A single text that goes on from the one that
  /// was read last is read from there. Returns logits [texts, vocab] of the last tokens, on the
  /// CPU. Throws Error(kBadInput) for an empty text.
  at::Tensor start(const std::vector<std::vector<std::int64_t>>& texts);
  /// Appends one token to each text and returns their logits.
  at::Tensor append(const std::vector<std::int64_t>& ids);
  /// Keeps the texts listed, in that order, with repeats.
  void select(const std::vector<std::int64_t>& texts);

 private:
  at::Tensor read(const std::vector<std::vector<std::int64_t>>& pieces);
  bool continues(const std::vector<std::vector<std::int64_t>>& texts) const;

  Model& model_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<std::int64_t>> texts_;  ///< what was read
};

}  // namespace espalier
