#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/config_schema.h"
#include "espalier/peft/module_selection.h"

namespace espalier::lora {

using peft::ends_with_pattern;
using peft::is_named;
using peft::module_names;
using peft::nearest_modules;
using peft::Selection;
using peft::Target;
using peft::targets_of;

/// The recipe section. Keys have the names of NeMo Automodel's PeftConfig where it has them, and of
/// PEFT's LoraConfig otherwise; r, lora_alpha and lora_dropout are PEFT's names of the first three.
struct LoraConfig {
  std::int64_t dim = 8;
  double alpha = 32;
  double dropout = 0.0;
  std::optional<std::int64_t> r;
  std::optional<double> lora_alpha;
  std::optional<double> lora_dropout;
  std::string dropout_position = "post";
  std::string lora_A_init = "xavier";
  std::string lora_dtype = "float32";
  bool match_all_linear = false;
  std::vector<std::string> target_modules;
  std::vector<std::string> exclude_modules;
  std::vector<std::string> target_parameters;
  std::vector<std::string> modules_to_save;
  std::vector<std::int64_t> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::map<std::string, std::int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  std::string bias = "none";
  bool use_rslora = false;
  bool use_dora = false;
  double loraplus_lr_ratio = 1.0;
  std::string path;

  static ConfigSchema<LoraConfig> schema();
};

/// What the adapter works with, whether it came from a recipe or from adapter_config.json.
struct LoraSettings {
  std::int64_t r = 8;
  double alpha = 8;
  double dropout = 0.0;
  bool dropout_before = true;  ///< on the input of A; false: on the output of B
  std::string init = "kaiming";
  std::string dtype = "float32";
  Selection selection;
  std::vector<std::string> target_parameters;  ///< projections of experts, by the ends of names
  std::vector<std::string> modules_to_save;
  /// First match wins, as in PEFT; patterns are regular expressions of the end of a module's name.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::string bias = "none";
  bool use_rslora = false;
  bool use_dora = false;
  double lr_ratio = 1.0;

  std::int64_t rank_of(const std::string& module) const;
  double alpha_of(const std::string& module) const;
  /// alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023).
  double scale_of(const std::string& module) const;
};

/// Throws Error(kBadInput) where two names of one setting disagree.
LoraSettings settings_from(const LoraConfig& config);

}  // namespace espalier::lora
