#include "lora_config.h"

#include <cmath>

#include "espalier/base/error.h"

namespace espalier::lora {
namespace {

template <class T>
T one_of_two(T value, T standard, const std::optional<T>& other, const char* name,
             const char* other_name) {
  if (!other) return value;
  if (value != standard && value != *other) {
    throw_bad_input(std::string("'peft.") + name + "' and 'peft." + other_name +
                        "' are two names of one setting, with two values",
                    std::to_string(value) + " and " + std::to_string(*other), "one of them",
                    std::string("peft.") + other_name);
  }
  return *other;
}

template <class T>
T value_for(const std::vector<std::pair<std::string, T>>& patterns, const std::string& module,
            T otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (ends_with_pattern(pattern, module)) return value;
  }
  return otherwise;
}

}  // namespace

ConfigSchema<LoraConfig> LoraConfig::schema() {
  return ConfigSchema<LoraConfig>()
      .field("dim", &LoraConfig::dim, "rank of the update")
      .at_least(1)
      .field("alpha", &LoraConfig::alpha, "the update is multiplied by alpha / dim")
      .more_than(0)
      .field("dropout", &LoraConfig::dropout, "share of values that a training step leaves out")
      .at_least(0)
      .less_than(1)
      .field("r", &LoraConfig::r, "another name of dim")
      .at_least(1)
      .field("lora_alpha", &LoraConfig::lora_alpha, "another name of alpha")
      .more_than(0)
      .field("lora_dropout", &LoraConfig::lora_dropout, "another name of dropout")
      .at_least(0)
      .less_than(1)
      .field("dropout_position", &LoraConfig::dropout_position,
             "pre: on what goes into A; post: on what comes out of B")
      .one_of({"pre", "post"})
      .field(
          "lora_A_init", &LoraConfig::lora_A_init,
          "start of A (B starts at zero): xavier normal, kaiming uniform as in PEFT, or gaussian "
          "with deviation 1 / dim")
      .one_of({"xavier", "kaiming", "gaussian"})
      .field("lora_dtype", &LoraConfig::lora_dtype, "how the adapter's weights are stored")
      .one_of({"float32", "bfloat16", "float16"})
      .field("match_all_linear", &LoraConfig::match_all_linear,
             "every linear but the output head; so is a section without target_modules")
      .field("target_modules", &LoraConfig::target_modules,
             "modules by their name, by its end (q_proj), by wildcards on the whole name "
             "(model.layers.*_proj), or by a regular expression of the whole name")
      .or_single()
      .field("exclude_modules", &LoraConfig::exclude_modules,
             "modules to leave out, named in the same ways")
      .or_single()
      .field("target_parameters", &LoraConfig::target_parameters,
             "projections of experts by the ends of their names (experts.down_proj); given alone, "
             "no linear is adapted")
      .or_single()
      .field("modules_to_save", &LoraConfig::modules_to_save,
             "modules that are trained whole, as a copy inside the adapter")
      .or_single()
      .field("layers_to_transform", &LoraConfig::layers_to_transform,
             "layer numbers to stay in; empty: all")
      .or_single()
      .at_least(0)
      .field("layers_pattern", &LoraConfig::layers_pattern,
             "what comes before the layer number in names; empty: any word")
      .or_single()
      .field("rank_pattern", &LoraConfig::rank_pattern,
             "ranks of their own for modules whose name ends in the pattern")
      .at_least(1)
      .field("alpha_pattern", &LoraConfig::alpha_pattern,
             "alphas of their own for modules whose name ends in the pattern")
      .more_than(0)
      .field("bias", &LoraConfig::bias,
             "biases that are trained too: none, all, or those of adapted modules")
      .one_of({"none", "all", "lora_only"})
      .field("use_rslora", &LoraConfig::use_rslora, "multiply by alpha / sqrt(dim) instead")
      .field("use_dora", &LoraConfig::use_dora, "train the rows' magnitude apart (DoRA)")
      .field("loraplus_lr_ratio", &LoraConfig::loraplus_lr_ratio,
             "learning rate of B, biases and magnitudes over that of A (LoRA+)")
      .more_than(0)
      .field("path", &LoraConfig::path,
             "go on from the adapter in this folder: its own settings hold");
}

LoraSettings settings_from(const LoraConfig& config) {
  const LoraConfig standard;
  LoraSettings settings;
  settings.r = one_of_two(config.dim, standard.dim, config.r, "dim", "r");
  settings.alpha =
      one_of_two(config.alpha, standard.alpha, config.lora_alpha, "alpha", "lora_alpha");
  settings.dropout =
      one_of_two(config.dropout, standard.dropout, config.lora_dropout, "dropout", "lora_dropout");
  settings.dropout_before = config.dropout_position == "pre";
  settings.init = config.lora_A_init;
  settings.dtype = config.lora_dtype;
  settings.selection.targets = config.target_modules;
  settings.selection.excludes = config.exclude_modules;
  settings.target_parameters = config.target_parameters;
  settings.selection.all_linear = config.match_all_linear || (config.target_modules.empty() &&
                                                              config.target_parameters.empty());
  settings.selection.layers = config.layers_to_transform;
  settings.selection.layers_pattern = config.layers_pattern;
  if (config.match_all_linear && !config.target_modules.empty()) {
    throw_bad_input("'peft.match_all_linear' and 'peft.target_modules' exclude each other",
                    "both of them", "one of them", "peft.target_modules",
                    "target_modules alone names what is adapted");
  }
  settings.modules_to_save = config.modules_to_save;
  settings.rank_pattern.assign(config.rank_pattern.begin(), config.rank_pattern.end());
  settings.alpha_pattern.assign(config.alpha_pattern.begin(), config.alpha_pattern.end());
  settings.bias = config.bias;
  settings.use_rslora = config.use_rslora;
  settings.use_dora = config.use_dora;
  settings.lr_ratio = config.loraplus_lr_ratio;
  return settings;
}

std::int64_t LoraSettings::rank_of(const std::string& module) const {
  return value_for(rank_pattern, module, r);
}

double LoraSettings::alpha_of(const std::string& module) const {
  return value_for(alpha_pattern, module, alpha);
}

double LoraSettings::scale_of(const std::string& module) const {
  const auto rank = static_cast<double>(rank_of(module));
  return alpha_of(module) / (use_rslora ? std::sqrt(rank) : rank);
}

}  // namespace espalier::lora
