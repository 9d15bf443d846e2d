#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// How the next token is picked from logits; the order of the steps is that of transformers:
/// repetition penalty, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  bool sample = false;              ///< false: the most likely token
  double repetition_penalty = 1.0;  ///< applies to prompt tokens too
  double temperature = 1.0;
  std::int64_t top_k = 0;  ///< 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  std::uint64_t seed = 0;

  /// Throws Error(kBadInput) for values out of range.
  void check() const;
};

/// Picks tokens of one sequence. Draw number i depends on (seed, stream, i) alone.
class ESPALIER_API Sampler {
 public:
  Sampler(SamplingOptions options, std::uint64_t stream);

  /// logits [vocab] of any floating dtype; `history` is prompt and answer so far.
  std::int64_t pick(const at::Tensor& logits, const std::vector<std::int64_t>& history);
  /// Probabilities [vocab] after all steps, as sampled from; double.
  at::Tensor probabilities(const at::Tensor& logits,
                           const std::vector<std::int64_t>& history) const;

 private:
  at::Tensor penalised(const at::Tensor& logits, const std::vector<std::int64_t>& history) const;

  SamplingOptions options_;
  std::uint64_t stream_;
  std::uint64_t draws_ = 0;
};

}  // namespace espalier
