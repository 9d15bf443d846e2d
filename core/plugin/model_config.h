#pragma once

#include <string>

#include "espalier/base/value.h"

namespace espalier::plugin {

/// config.json of a model folder. Throws Error(kBadInput) that says what the folder is instead
/// where it is no model: a file, empty, an adapter, a GGUF file.
Value read_model_config(const std::string& folder);

/// `config` with the keys of `overrides` in place of its own, table by table. A key has to be one
/// that the config has or that configs of transformers have in common, and its value of the type
/// that is there. A rotary base given beside `rope_parameters` goes into that table, where newer
/// configs keep it. Throws Error(kBadInput) with everything that is wrong, each with its position
/// in the recipe.
Value with_config_overrides(Value config, const Value& overrides);

}  // namespace espalier::plugin
