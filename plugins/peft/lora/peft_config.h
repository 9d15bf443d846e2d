#pragma once

#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "lora_config.h"

namespace espalier::lora {

/// adapter_config.json of PEFT (LoraConfig.save_pretrained). Throws Error(kBadInput) for another
/// peft_type or wrong types, Error(kUnsupported) for options that change what is computed and are
/// not known here.
LoraSettings settings_from_peft(const Value& config, const std::string& path);

/// The adapter_config.json that PEFT reads back to the same adapter. `modules` are the names of all
/// adapted modules, listed where the selection has patterns that PEFT has not; `transposed` says
/// that their weights are stored as [in, out].
Value peft_config(const LoraSettings& settings, const std::vector<std::string>& modules,
                  bool transposed, const std::string& base_model);

/// Whether PEFT stores the weight of the base beside the update of `module`: for an embedding or
/// head whose name stands in target_modules as one of the two that it knows
/// (EMBEDDING_LAYER_NAMES).
bool stores_base_weight(const Value& config, const std::string& module);

}  // namespace espalier::lora
