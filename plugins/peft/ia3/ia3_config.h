#pragma once

#include <string>
#include <vector>

#include "espalier/base/config_schema.h"
#include "espalier/peft/module_selection.h"

namespace espalier::ia3 {

/// The recipe section; keys have the names of PEFT's IA3Config.
struct Ia3Config {
  std::vector<std::string> target_modules;
  std::vector<std::string> exclude_modules;
  std::vector<std::string> feedforward_modules;
  std::string dtype = "float32";
  std::string path;

  static ConfigSchema<Ia3Config> schema();
};

/// What the adapter works with, whether it came from a recipe or from adapter_config.json.
struct Ia3Settings {
  peft::Selection targets;
  /// Modules whose input is scaled; the same ways of naming as for targets.
  std::vector<std::string> feedforward;
  std::string feedforward_regex;
  bool plain_ends = false;  ///< PEFT's rule: a name ends in one of them
  std::string dtype = "float32";
};

Ia3Settings settings_from(const Ia3Config& config);
/// Throws Error(kBadInput) or Error(kUnsupported); `path` is for messages.
Ia3Settings settings_from_peft(const Value& config, const std::string& path);

/// adapter_config.json. `modules` are the names of what is adapted, `feedforward` those of them
/// whose input is scaled; `transposed` where the base stores them so.
Value peft_config(const Ia3Settings& settings, const std::vector<std::string>& modules,
                  const std::vector<std::string>& feedforward, bool transposed,
                  const std::string& base_model);

}  // namespace espalier::ia3
