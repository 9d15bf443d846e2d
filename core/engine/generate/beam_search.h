#pragma once

#include <cstdint>
#include <vector>

#include "engine/generate/generator.h"

namespace espalier {

/// The best `num_answers` of `num_beams` continuations, best first, by the rules of transformers'
/// `_beam_search`; with sampling, candidates are drawn without replacement. `stream` numbers the
/// prompt for draws.
std::vector<Answer> beam_search(TextRunner& runner, const std::vector<std::int64_t>& prompt,
                                const GenerateOptions& options, std::uint64_t stream);

}  // namespace espalier
