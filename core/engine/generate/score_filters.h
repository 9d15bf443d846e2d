#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <set>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// How the next token is picked from logits. The steps and their order are those of transformers'
/// `generate`: repetition penalty, n-grams, stop ids, then temperature, top-h, top-k, top-p, min-p,
/// typical, epsilon, eta.
struct SamplingOptions {
  bool sample =
      false;  ///< false: the most likely token; the steps from temperature on are left out
  double repetition_penalty = 1.0;        ///< applies to prompt tokens too
  std::int64_t no_repeat_ngram_size = 0;  ///< 0: off
  std::int64_t min_new_tokens = 0;        ///< before them no stop id is picked
  double temperature = 1.0;
  double top_h = 0.0;      ///< 0: off; the share of the entropy that is kept
  std::int64_t top_k = 0;  ///< 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  double typical_p = 1.0;       ///< Meister et al. 2022
  double epsilon_cutoff = 0.0;  ///< Hewitt et al. 2022, as eta_cutoff
  double eta_cutoff = 0.0;
  std::uint64_t seed = 0;

  /// Throws Error(kBadInput) for values out of range, with the option of the command line.
  ESPALIER_API void check() const;
};

/// What of a text the steps look at.
struct TextSoFar {
  const std::vector<std::int64_t>& ids;  ///< prompt and answer
  std::int64_t prompt_length = 0;
  const std::set<std::int64_t>& stop_ids;
};

/// The steps before temperature. scores [vocab] double -> same shape; -inf where a token can't be.
ESPALIER_API at::Tensor process_scores(const SamplingOptions& options, const at::Tensor& scores,
                                       const TextSoFar& text);

/// Temperature and the steps after it, which leave at least `keep` tokens.
ESPALIER_API at::Tensor filter_scores(const SamplingOptions& options, const at::Tensor& scores,
                                      std::int64_t keep = 1);

}  // namespace espalier
