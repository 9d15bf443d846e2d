#pragma once

#include <functional>
#include <string>

#include "engine/run/model_loader.h"

namespace espalier {

/// Writes the model as a Hugging Face folder: weights under their published names and layout,
/// config.json, and the generation config, tokenizer and chat template of the folder that it was
/// loaded from. `folder` appears whole or not at all; what was there is replaced. Throws
/// Error(kIo). `value` gives the whole of the parameter with an index into the model's; without it
/// they are whole here.
ESPALIER_API void export_model(const LoadedModel& loaded, const std::string& folder,
                               const std::function<at::Tensor(std::size_t)>& value = {});

/// Writes the model's adapter alone, in PEFT's format, with the tokenizer of the base. `base_model`
/// is the name of the base in the adapter's config; `value` gives whole parameters.
ESPALIER_API void export_adapter(const LoadedModel& loaded, const std::string& folder,
                                 const std::string& base_model,
                                 const WholeValue& value = held_value);

}  // namespace espalier
