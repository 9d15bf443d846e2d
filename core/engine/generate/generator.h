#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "engine/generate/sampler.h"
#include "espalier/sdk/model.h"

namespace espalier {

struct GenerateOptions {
  std::int64_t max_new_tokens = 128;
  std::set<std::int64_t> stop_ids;  ///< an id of these ends the answer, and is part of it
  SamplingOptions sampling;
};

/// Called after each token; false stops.
using TokenSink = std::function<bool(std::int64_t id)>;

/// Continues `prompt` and returns the new ids. Keys and values are kept between tokens where the
/// model allows; otherwise each token computes the whole text again. Throws Error(kBadInput) for an
/// empty prompt or one beyond the model's length.
ESPALIER_API std::vector<std::int64_t> generate(Model& model,
                                                const std::vector<std::int64_t>& prompt,
                                                const GenerateOptions& options,
                                                const TokenSink& sink = {});

}  // namespace espalier
