#pragma once

#include <string>

#include "engine/run/model_loader.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// Writes the model as a Hugging Face folder: weights under their published names and layout,
/// config.json, and the generation config, tokenizer and chat template of the folder that it was
/// loaded from. `folder` appears whole or not at all; what was there is replaced. Throws
/// Error(kIo).
ESPALIER_API void export_model(const LoadedModel& loaded, const std::string& folder,
                               ParallelStrategy* strategy = nullptr);

}  // namespace espalier
