#include "ia3_config.h"

#include <algorithm>

#include "espalier/peft/config_reader.h"

namespace espalier::ia3 {

ConfigSchema<Ia3Config> Ia3Config::schema() {
  return ConfigSchema<Ia3Config>()
      .field("target_modules", &Ia3Config::target_modules,
             "linears to scale (attention's keys and values and the last of the MLP in the paper): "
             "by their name, by its end (k_proj), by wildcards on the whole name, or by a regular "
             "expression of the whole name; empty: every linear but the output head")
      .or_single()
      .field("exclude_modules", &Ia3Config::exclude_modules,
             "modules to leave out, named in the same ways")
      .or_single()
      .field("feedforward_modules", &Ia3Config::feedforward_modules,
             "those of them whose input is scaled in place of their output, named in the same ways")
      .or_single()
      .field("dtype", &Ia3Config::dtype, "how the adapter's vectors are stored")
      .one_of({"float32", "bfloat16", "float16"})
      .field("path", &Ia3Config::path,
             "go on from the adapter in this folder: its own settings hold");
}

Ia3Settings settings_from(const Ia3Config& config) {
  Ia3Settings settings;
  settings.targets.targets = config.target_modules;
  settings.targets.excludes = config.exclude_modules;
  settings.targets.all_linear = config.target_modules.empty();
  settings.feedforward = config.feedforward_modules;
  settings.dtype = config.dtype;
  return settings;
}

Ia3Settings settings_from_peft(const Value& config, const std::string& path) {
  const peft::PeftReader read(config, path);
  read.require_kind("IA3");
  read.refuse({"modules_to_save"});
  Ia3Settings settings;
  settings.targets = peft::selection_from(read);
  settings.plain_ends = true;
  const Value* feedforward = read.find("feedforward_modules");
  if (feedforward != nullptr && feedforward->is_string())
    settings.feedforward_regex = feedforward->as_string();
  else
    settings.feedforward = read.texts("feedforward_modules");
  return settings;
}

Value peft_config(const Ia3Settings& settings, const std::vector<std::string>& modules,
                  const std::vector<std::string>& feedforward, bool transposed,
                  const std::string& base_model) {
  Table table;
  table.set("auto_mapping", Value());
  table.set("base_model_name_or_path", base_model);
  table.set("fan_in_fan_out", transposed);
  table.set("inference_mode", true);
  table.set("init_ia3_weights", true);
  table.set("modules_to_save", Value());
  table.set("peft_type", "IA3");
  table.set("revision", Value());
  table.set("task_type", "CAUSAL_LM");
  Table selection;
  peft::set_selection(selection, settings.targets, modules);
  table.set("target_modules", *selection.find("target_modules"));
  table.set("exclude_modules", *selection.find("exclude_modules"));
  // PEFT wants the list to be a part of target_modules: names as there, or whole names in both.
  const Value& targets = *selection.find("target_modules");
  const bool as_given =
      settings.feedforward_regex.empty() && targets.is_array() &&
      std::all_of(settings.feedforward.begin(), settings.feedforward.end(), [&](const auto& name) {
        const Array& list = targets.as_array();
        return std::find(list.begin(), list.end(), Value(name)) != list.end();
      });
  if (feedforward.empty()) {
    table.set("feedforward_modules", Array());
  } else if (settings.plain_ends && !settings.feedforward_regex.empty()) {
    table.set("feedforward_modules", settings.feedforward_regex);
  } else if (as_given) {
    table.set("feedforward_modules",
              Array(settings.feedforward.begin(), settings.feedforward.end()));
  } else {
    table.set("target_modules", peft::list_of(modules));
    table.set("exclude_modules", Value());
    table.set("feedforward_modules", Array(feedforward.begin(), feedforward.end()));
  }
  return table;
}

}  // namespace espalier::ia3
