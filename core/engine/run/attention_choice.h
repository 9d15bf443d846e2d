#pragma once

#include <string>
#include <utility>

#include "espalier/sdk/model.h"

namespace espalier {

/// Puts the attention that `requested` names into every seat of the model: "auto", "eager" (scores
/// written out), "sdpa" (LibTorch's), or a "flash_attention_*", which this build has inside sdpa
/// alone and falls back from. Returns what was taken and the reason. Error(kBadInput) for another
/// name.
std::pair<std::string, std::string> choose_attention(Model& model, const std::string& requested,
                                                     at::Device device);

}  // namespace espalier
