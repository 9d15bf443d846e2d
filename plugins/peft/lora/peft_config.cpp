#include "peft_config.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/peft/config_reader.h"

namespace espalier::lora {

using peft::list_of;
using peft::number;
using peft::PeftReader;
using peft::selection_from;
using peft::set_selection;

namespace {

/// PEFT knows the start of A under other names; what it reads is trained already.
Value init_name(const std::string& init) {
  return init == "gaussian" ? Value("gaussian") : Value(true);
}

}  // namespace

LoraSettings settings_from_peft(const Value& config, const std::string& path) {
  const PeftReader read(config, path);
  read.require_kind("LORA");
  read.refuse({"alora_invocation_tokens", "arrow_config", "layer_replication", "lora_bias",
               "monteclora_config", "kasa_config", "trainable_token_indices", "use_bdlora",
               "use_qalora", "velora_config"});
  LoraSettings settings;
  settings.r = static_cast<std::int64_t>(read.number("r", 8));
  read.require(settings.r > 0, "r", "a rank of 1 or more");
  settings.alpha = read.number("lora_alpha", 8);
  settings.dropout = read.number("lora_dropout", 0);
  settings.selection = selection_from(read);
  settings.target_parameters = read.texts("target_parameters");
  settings.modules_to_save = read.texts("modules_to_save");
  for (const auto& [pattern, rank] : read.table("rank_pattern")) {
    read.require(rank.is_int() && rank.as_int() > 0, "rank_pattern", "ranks of 1 or more");
    settings.rank_pattern.emplace_back(pattern, rank.as_int());
  }
  for (const auto& [pattern, alpha] : read.table("alpha_pattern")) {
    read.require(alpha.is_number(), "alpha_pattern", "numbers");
    settings.alpha_pattern.emplace_back(pattern, alpha.as_float());
  }
  settings.bias = read.text("bias", "none");
  read.require(settings.bias == "none" || settings.bias == "all" || settings.bias == "lora_only",
               "bias", "none, all or lora_only");
  settings.use_rslora = read.flag("use_rslora");
  settings.use_dora = read.flag("use_dora");
  return settings;
}

Value peft_config(const LoraSettings& settings, const std::vector<std::string>& modules,
                  bool transposed, const std::string& base_model) {
  Table table;
  Table alphas;
  for (const auto& [pattern, alpha] : settings.alpha_pattern) alphas.set(pattern, number(alpha));
  Table ranks;
  for (const auto& [pattern, rank] : settings.rank_pattern) ranks.set(pattern, rank);
  table.set("alpha_pattern", std::move(alphas));
  table.set("auto_mapping", Value());
  table.set("base_model_name_or_path", base_model);
  table.set("bias", settings.bias);
  table.set("fan_in_fan_out", transposed);
  table.set("inference_mode", true);
  table.set("init_lora_weights", init_name(settings.init));
  table.set("lora_alpha", number(settings.alpha));
  table.set("lora_bias", false);
  table.set("lora_dropout", settings.dropout);
  table.set("modules_to_save", list_of(settings.modules_to_save));
  table.set("peft_type", "LORA");
  table.set("r", settings.r);
  table.set("rank_pattern", std::move(ranks));
  table.set("revision", Value());
  set_selection(table, settings.selection, modules);
  // Without a list PEFT would choose modules by the kind of model.
  if (modules.empty()) table.set("target_modules", Array());
  table.set("target_parameters", list_of(settings.target_parameters));
  table.set("task_type", "CAUSAL_LM");
  table.set("use_dora", settings.use_dora);
  table.set("use_rslora", settings.use_rslora);
  return table;
}

bool stores_base_weight(const Value& config, const std::string& module) {
  constexpr const char* kKnown[] = {"embed_tokens", "lm_head"};
  const Value& targets = *config.find("target_modules");
  const bool known = std::any_of(std::begin(kKnown), std::end(kKnown),
                                 [&](const char* name) { return is_named(name, module); });
  if (!known) return false;
  return std::any_of(std::begin(kKnown), std::end(kKnown), [&](const std::string& name) {
    if (targets.is_string()) return targets.as_string().find(name) != std::string::npos;
    const Array& list = targets.as_array();
    return std::find(list.begin(), list.end(), Value(name)) != list.end();
  });
}

}  // namespace espalier::lora
