#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dropout.h"
#include "espalier/peft/module_selection.h"
#include "espalier/sdk/model.h"
#include "lora_config.h"

namespace espalier::lora {

/// A parameter of the model and the copy of it that is trained in its place.
struct Replacement {
  std::shared_ptr<Parameter> base;
  std::shared_ptr<Parameter> copy;  ///< under its name in the adapter's file
  DiskMapping mapping;
  /// False where the module that holds the copy switches by itself: its weight may be tied, and the
  /// other module goes on with the base's.
  bool substitutes = true;
};

/// Whole names of the modules that are to be saved. A recipe names them as it names targets; an
/// adapter_config.json by the last characters of their names, within a word too: PEFT takes
/// "input_layernorm" for a "norm". Throws Error(kBadInput) for a name that matches nothing.
std::vector<std::string> saved_modules(Model& model, const LoraSettings& settings);

/// The copies of whole modules (`saved`) and of biases (bias = "all" or "lora_only").
std::vector<Replacement> replace_modules(Model& model, const LoraSettings& settings,
                                         const std::vector<std::string>& saved,
                                         const std::vector<Target>& adapted,
                                         const std::shared_ptr<const AdapterState>& state);

}  // namespace espalier::lora
