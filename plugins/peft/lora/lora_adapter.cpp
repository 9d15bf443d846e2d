// LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), LoRA+ (Hayou et al. 2024) and DoRA (Liu et
// al. 2024) as an adapter. The model's own parameters are frozen and never written to; biases and
// whole modules that are trained beside are copies.
#include "lora_adapter.h"

#include <algorithm>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"
#include "espalier/peft/adapter_files.h"
#include "espalier/sdk/plugin.h"
#include "lora_module.h"
#include "peft_config.h"

namespace espalier::lora {

LoraAdapter::LoraAdapter(const LoraConfig& config)
    : settings_(settings_from(config)), state_(std::make_shared<AdapterState>()) {
  if (!config.path.empty()) open(config.path);
}

void LoraAdapter::open(const std::string& folder) {
  const LoraSettings given = settings_;
  settings_ =
      settings_from_peft(peft::read_adapter_config(folder), folder + "/adapter_config.json");
  settings_.lr_ratio = given.lr_ratio;
  folder_ = folder;
}

void LoraAdapter::attach(Model& model) {
  const std::vector<std::string> saved = saved_modules(model, settings_);
  // Whole names mean the same to PEFT, whose rule for ends of names is another.
  if (!settings_.selection.plain_names) settings_.modules_to_save = saved;
  std::vector<Target> targets;
  if (adapts_modules())
    targets = peft::select_modules(model, settings_.selection, settings_.modules_to_save);
  for (const auto& parameter : model.parts().parameters) parameter->set_trainable(false);
  for (const Target& target : targets) add_module(target);
  experts_ = extend_experts(model, settings_, state_);
  check_patterns(targets);
  for (const auto& module : experts_) {
    for (const auto& parameter : module->parameters()) {
      parameters_.push_back(parameter);
      mappings_.push_back(identity_mapping(parameter->spec()));
    }
  }
  replacements_ = replace_modules(model, settings_, saved, targets, state_);
  for (const Replacement& replacement : replacements_) {
    parameters_.push_back(replacement.copy);
    mappings_.push_back(replacement.mapping);
  }
  for (const DiskMapping& mapping : model.parts().mappings) {
    const bool target = std::any_of(targets.begin(), targets.end(), [&](const Target& t) {
      return t.linear != nullptr && t.linear->weight()->name() == mapping.parameter;
    });
    if (target && mapping.parts.front().dimensions == std::vector<std::int64_t>{1, 0})
      transposed_ = true;
  }
  std::vector<std::shared_ptr<Parameter>>& added = model.parts().added_parameters;
  added.insert(added.end(), parameters_.begin(), parameters_.end());
}

/// Projections of experts may be all that is adapted.
bool LoraAdapter::adapts_modules() const {
  const peft::Selection& selection = settings_.selection;
  return settings_.target_parameters.empty() || selection.all_linear ||
         !selection.targets.empty() || !selection.target_regex.empty();
}

void LoraAdapter::check_patterns(const std::vector<Target>& targets) const {
  ProblemList problems;
  std::vector<std::string> names;
  for (const Target& target : targets) {
    names.push_back(target.name);
    const std::vector<std::int64_t> shape = target.linear != nullptr
                                                ? target.linear->weight()->spec().shape()
                                                : target.embedding->weight()->spec().shape();
    const std::int64_t limit = std::min(shape[0], shape[1]);
    const std::int64_t rank = settings_.rank_of(target.name);
    if (rank > limit)
      problems.add({ErrorCode::kBadInput, "the rank is larger than the layer '" + target.name + "'",
                    std::to_string(rank), "at most " + std::to_string(limit), "peft.dim",
                    "lower it, or give this layer a rank of its own in rank_pattern"});
  }
  for (const auto& module : experts_) names.push_back(module->name());
  const auto check = [&](const auto& patterns, const char* key) {
    for (const auto& [pattern, value] : patterns) {
      const std::string& text = pattern;
      if (settings_.selection.plain_names ||
          std::any_of(names.begin(), names.end(),
                      [&](const auto& name) { return ends_with_pattern(text, name); }))
        continue;
      problems.add({ErrorCode::kBadInput, "a pattern matches none of the adapted modules", pattern,
                    "the end of a module's name, as a regular expression",
                    std::string("peft.") + key, nearest_modules(pattern, names)});
    }
  };
  check(settings_.rank_pattern, "rank_pattern");
  check(settings_.alpha_pattern, "alpha_pattern");
  problems.throw_if_any();
}

void LoraAdapter::add_module(const Target& target) {
  std::shared_ptr<LoraModule> module;
  if (target.linear != nullptr) {
    const auto extension = std::make_shared<LoraLinear>(target, settings_, state_);
    target.linear->add_extension(extension);
    module = extension;
  } else {
    const auto extension = std::make_shared<LoraEmbedding>(target, settings_, state_);
    target.embedding->add_extension(extension);
    module = extension;
  }
  for (const auto& parameter : module->tensors()) {
    parameters_.push_back(parameter);
    mappings_.push_back(identity_mapping(parameter->spec()));
  }
  modules_.push_back(std::move(module));
}

void LoraAdapter::initialise(Model&, std::uint64_t seed) {
  for (const Replacement& replacement : replacements_)
    replacement.copy->set_value(replacement.base->value().detach().clone());
  if (folder_.empty()) {
    for (const auto& module : modules_) module->initialise(settings_, seed);
    for (const auto& module : experts_) module->initialise(settings_, seed);
    return;
  }
  std::vector<at::ScalarType> dtypes(parameters_.size(), scalar_type_from_name(settings_.dtype));
  for (std::size_t i = 0; i < replacements_.size(); ++i) {
    dtypes[dtypes.size() - replacements_.size() + i] = replacements_[i].base->value().scalar_type();
  }
  const auto base_weights = peft::read_adapter_values(folder_, parameters_, mappings_, dtypes);
  take_base_weights(base_weights);
}

/// Norms of DoRA and copies are made from weights; files hold weights of the base beside
/// embeddings.
bool LoraAdapter::initialises_without_weights() const {
  const bool may_replace =
      !folder_.empty() &&
      std::any_of(modules_.begin(), modules_.end(), [](const auto& m) { return !m->is_linear(); });
  return !settings_.use_dora && replacements_.empty() && !may_replace;
}

void LoraAdapter::take_base_weights(const std::map<std::string, at::Tensor>& weights) {
  for (const auto& entry : weights) {
    const std::string& name = entry.first;
    const at::Tensor& value = entry.second;
    const auto module =
        std::find_if(modules_.begin(), modules_.end(), [&](const std::shared_ptr<LoraModule>& m) {
          return kTensorPrefix + m->name() + ".base_layer.weight" == name;
        });
    if (module == modules_.end() || (*module)->weight()->value().sizes() != value.sizes()) {
      throw_bad_input("tensor '" + name + "' of the adapter does not fit the model",
                      c10::str(value.sizes()),
                      module == modules_.end() ? "a weight of a module that the adapter changes"
                                               : c10::str((*module)->weight()->value().sizes()),
                      folder_, "the adapter belongs to another base model");
    }
    Parameter& weight = *(*module)->weight();
    weight.set_value(value.to(weight.value().device(), weight.value().scalar_type()));
    restored_.insert((*module)->name());
  }
}

std::vector<ParameterGroupConfig> LoraAdapter::parameter_groups() const {
  if (settings_.lr_ratio == 1.0) return {};
  ParameterGroupConfig group;
  for (const auto& parameter : parameters_) {
    const bool is_b = parameter->name().ends_with(".lora_B.weight");
    if (is_b || parameter->spec().dimensions.size() == 1)
      group.patterns.push_back(parameter->name());
  }
  group.lr_multiplier = settings_.lr_ratio;
  return {group};
}

void LoraAdapter::set_enabled(bool enabled) {
  state_->enabled = enabled;
  for (const Replacement& replacement : replacements_) {
    if (replacement.substitutes)
      replacement.base->set_substitute(enabled ? replacement.copy : nullptr);
  }
}

void LoraAdapter::save(const std::string& folder, const std::string& base_model,
                       const WholeValue& value) const {
  std::vector<std::string> names;
  for (const auto& module : modules_) names.push_back(module->name());
  std::sort(names.begin(), names.end());
  const Value config = peft_config(settings_, names, transposed_, base_model);
  write_file_atomically(folder + "/adapter_config.json", dump_json(config, 2) + "\n");

  std::map<std::string, at::Tensor> tensors;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    for (auto& [name, tensor] : to_disk_layout(mappings_[i], value(*parameters_[i])))
      tensors.emplace(name, tensor);
  }
  for (const auto& module : modules_) {
    if (stores_base_weight(config, module->name()))
      tensors.emplace(kTensorPrefix + module->name() + ".base_layer.weight",
                      value(*module->weight()));
  }
  write_tensors(folder + "/adapter_model.safetensors", tensors, {{"format", "pt"}});
}

void LoraAdapter::merge(Model& model) {
  merge_into(model, modules_, replacements_);
  for (const auto& module : experts_) module->merge(1);
  set_enabled(false);
}

void LoraAdapter::unmerge(Model& model) {
  unmerge_from(model, modules_, replacements_, restored_);
  for (const auto& module : experts_) module->merge(-1);
  set_enabled(false);
}

double LoraAdapter::extract(Model& model, Model& tuned) {
  return extract_difference(model, tuned, modules_, replacements_);
}

namespace {

void register_components(Registrar& registrar) {
  registrar.add<Adapter, LoraAdapter>("lora", "low-rank updates beside a frozen model (LoRA, DoRA)")
      .serves("peft_types", {"LORA"})
      .property("default_for", "peft")
      .alias("nemo_automodel.components._peft.lora.PeftConfig",
             parse_json(R"({"use_triton": {"note": "kernels are chosen by [kernels]"},
                            "use_memory_efficient_lora": {"note": "memory is planned by the engine"},
                            "moe_rank_scaling": {"only": false}})")
                 .as_table())
      .alias("peft.LoraConfig");
}

}  // namespace
}  // namespace espalier::lora

ESPALIER_PLUGIN("espalier.lora", "0.1.0", espalier::lora::register_components)
