#pragma once

#include "config/host_config.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Takes parameters out of training. The gradients of what is frozen are not computed, and the
/// backward pass ends at the first block that has something to learn. Towers are known by words in
/// their names. Throws Error(kBadInput) for a pattern, or a tower other than the eye, that the
/// model has not.
ESPALIER_API void freeze_parameters(Model& model, const config::FreezeConfig& config);

}  // namespace espalier
