#include "peft_config.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::lora {
namespace {

/// Reads keys of adapter_config.json; null counts as absent.
class PeftReader {
 public:
  PeftReader(const Value& config, const std::string& path) : config_(config), path_(path) {}

  const Value* find(const char* key) const {
    const Value* value = config_.find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  bool flag(const char* key) const {
    const Value* value = find(key);
    require(value == nullptr || value->is_bool(), key, "true or false");
    return value != nullptr && value->as_bool();
  }
  double number(const char* key, double fallback) const {
    const Value* value = find(key);
    require(value == nullptr || value->is_number(), key, "a number");
    return value == nullptr ? fallback : value->as_float();
  }
  std::string text(const char* key, const std::string& fallback) const {
    const Value* value = find(key);
    require(value == nullptr || value->is_string(), key, "a text");
    return value == nullptr ? fallback : value->as_string();
  }
  /// A list of texts, or one text where `single` allows it.
  std::vector<std::string> texts(const char* key, bool single = false) const {
    const Value* value = find(key);
    if (value == nullptr) return {};
    if (single && value->is_string()) return {value->as_string()};
    require(value->is_array(), key, "a list of texts");
    std::vector<std::string> list;
    for (const Value& item : value->as_array()) {
      require(item.is_string(), key, "a list of texts");
      list.push_back(item.as_string());
    }
    return list;
  }
  std::vector<std::int64_t> numbers(const char* key) const {
    const Value* value = find(key);
    if (value == nullptr) return {};
    if (value->is_int()) return {value->as_int()};
    require(value->is_array(), key, "a number or a list of numbers");
    std::vector<std::int64_t> list;
    for (const Value& item : value->as_array()) {
      require(item.is_int(), key, "a number or a list of numbers");
      list.push_back(item.as_int());
    }
    return list;
  }
  const Table& table(const char* key) const {
    static const Table kNone;
    const Value* value = find(key);
    require(value == nullptr || value->is_table(), key, "a table of patterns");
    return value == nullptr ? kNone : value->as_table();
  }
  void require(bool condition, const char* key, const char* expected) const {
    if (condition) return;
    throw_bad_input(std::string("'") + key + "' of the adapter's config is wrong", {}, expected,
                    path_);
  }

 private:
  const Value& config_;
  const std::string& path_;
};

/// Options of PEFT that change the arithmetic, or add tensors, in ways that are not built here.
void refuse_unknown(const PeftReader& read, const std::string& path) {
  constexpr const char* kKeys[] = {"alora_invocation_tokens",
                                   "arrow_config",
                                   "layer_replication",
                                   "lora_bias",
                                   "monteclora_config",
                                   "kasa_config",
                                   "trainable_token_indices",
                                   "target_parameters",
                                   "use_bdlora",
                                   "use_qalora",
                                   "velora_config"};
  for (const char* key : kKeys) {
    const Value* value = read.find(key);
    if (value == nullptr || (value->is_bool() && !value->as_bool())) continue;
    if ((value->is_array() && value->as_array().empty()) ||
        (value->is_table() && value->as_table().empty()))
      continue;
    throw Error(Problem{ErrorCode::kUnsupported,
                        std::string("the adapter uses '") + key + "', which is not supported",
                        {},
                        {},
                        path,
                        "merge it into its base with PEFT (merge_and_unload)"});
  }
}

Selection selection_from(const PeftReader& read) {
  Selection selection;
  selection.plain_names = true;
  const Value* targets = read.find("target_modules");
  if (targets != nullptr && targets->is_string() && targets->as_string() != "all-linear") {
    selection.target_regex = targets->as_string();
  } else if (targets != nullptr && targets->is_string()) {
    selection.all_linear = true;
  } else {
    selection.targets = read.texts("target_modules");
    read.require(!selection.targets.empty(), "target_modules", "names of modules");
  }
  const Value* excludes = read.find("exclude_modules");
  if (excludes != nullptr && excludes->is_string())
    selection.exclude_regex = excludes->as_string();
  else
    selection.excludes = read.texts("exclude_modules");
  selection.layers = read.numbers("layers_to_transform");
  selection.layers_pattern = read.texts("layers_pattern", true);
  return selection;
}

Value list_of(const std::vector<std::string>& texts) {
  return texts.empty() ? Value() : Value(Array(texts.begin(), texts.end()));
}

/// Names and their ends mean the same to PEFT; wildcards and regular expressions in a list do not.
bool is_plain(const std::vector<std::string>& patterns) {
  return std::none_of(patterns.begin(), patterns.end(), [](const std::string& pattern) {
    return pattern.find_first_of("*?\\()[]|^$+{}") != std::string::npos;
  });
}

void set_selection(Table& table, const Selection& selection,
                   const std::vector<std::string>& modules) {
  const bool as_given =
      selection.plain_names || (!selection.all_linear && selection.target_regex.empty() &&
                                is_plain(selection.targets) && is_plain(selection.excludes));
  if (!as_given || selection.all_linear) {
    table.set("target_modules", list_of(modules));
    table.set("exclude_modules", Value());
    table.set("layers_to_transform", Value());
    table.set("layers_pattern", Value());
    return;
  }
  table.set("target_modules", selection.target_regex.empty() ? list_of(selection.targets)
                                                             : Value(selection.target_regex));
  table.set("exclude_modules", selection.exclude_regex.empty() ? list_of(selection.excludes)
                                                               : Value(selection.exclude_regex));
  Array layers;
  for (const std::int64_t layer : selection.layers) layers.emplace_back(layer);
  table.set("layers_to_transform", layers.empty() ? Value() : Value(std::move(layers)));
  table.set("layers_pattern", list_of(selection.layers_pattern));
}

/// PEFT knows the start of A under other names; what it reads is trained already.
Value init_name(const std::string& init) {
  return init == "gaussian" ? Value("gaussian") : Value(true);
}

Value number(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? Value(whole) : Value(value);
}

}  // namespace

LoraSettings settings_from_peft(const Value& config, const std::string& path) {
  const PeftReader read(config, path);
  const std::string kind = read.text("peft_type", "");
  if (kind != "LORA")
    throw_bad_input("the adapter is of another kind", kind, "peft_type LORA", path);
  refuse_unknown(read, path);
  LoraSettings settings;
  settings.r = static_cast<std::int64_t>(read.number("r", 8));
  read.require(settings.r > 0, "r", "a rank of 1 or more");
  settings.alpha = read.number("lora_alpha", 8);
  settings.dropout = read.number("lora_dropout", 0);
  settings.selection = selection_from(read);
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
