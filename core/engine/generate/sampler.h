#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/generate/score_filters.h"
#include "espalier/base/api.h"

namespace espalier {

/// Picks tokens of one sequence. Draw number i depends on (seed, stream, i) alone.
class ESPALIER_API Sampler {
 public:
  Sampler(SamplingOptions options, std::uint64_t stream);

  /// logits [vocab] of any floating dtype.
  std::int64_t pick(const at::Tensor& logits, const TextSoFar& text);
  /// Probabilities [vocab] after all steps, as sampled from; double.
  at::Tensor probabilities(const at::Tensor& logits, const TextSoFar& text) const;

 private:
  SamplingOptions options_;
  std::uint64_t stream_;
  std::uint64_t draws_ = 0;
};

}  // namespace espalier
