#include "replaced_module.h"

#include <algorithm>
#include <set>

#include "espalier/base/error.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "lora_module.h"

namespace espalier::lora {
namespace {

/// The weight of a module of which a copy is trained: the copy while the adapter is on, the
/// module's own weight otherwise.
class SwitchedWeight final : public nn::WeightStorage {
 public:
  SwitchedWeight(std::shared_ptr<const AdapterState> state, std::shared_ptr<Parameter> copy,
                 std::shared_ptr<Parameter> bias)
      : state_(std::move(state)), copy_(std::move(copy)), bias_(std::move(bias)) {}

  void set_base(std::unique_ptr<nn::WeightStorage> base) { base_ = std::move(base); }

  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override {
    if (!state_->enabled) return base_->linear(input, bias);
    return copy_.linear(input, bias_ == nullptr ? at::Tensor() : bias_->computed());
  }
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override {
    return active().rows(ids, dtype);
  }
  at::Tensor dense(at::ScalarType dtype) const override { return active().dense(dtype); }
  /// The copy of the bias too: all that is computed with.
  std::vector<std::shared_ptr<Parameter>> components() const override {
    std::vector<std::shared_ptr<Parameter>> all = active().components();
    if (state_->enabled && bias_ != nullptr) all.push_back(bias_);
    return all;
  }
  std::int64_t bytes() const override { return copy_.bytes() + base_->bytes(); }

 private:
  const nn::WeightStorage& active() const {
    return state_->enabled ? static_cast<const nn::WeightStorage&>(copy_) : *base_;
  }

  std::shared_ptr<const AdapterState> state_;
  nn::DenseWeight copy_;
  std::shared_ptr<Parameter> bias_;
  std::unique_ptr<nn::WeightStorage> base_;
};

class Replacer {
 public:
  Replacer(Model& model, const std::shared_ptr<const AdapterState>& state)
      : model_(model), state_(state) {}

  std::vector<Replacement> take() { return std::move(replacements_); }

  /// A module with all that is inside it.
  void replace_module(const std::string& module) {
    for (const Target& target : targets_of(model_)) {
      if (!is_in(target.name, module) || modules_done_.contains(target.name)) continue;
      if (target.embedding != nullptr) {
        replace_weight(*target.embedding, nullptr);
        continue;
      }
      const std::shared_ptr<Parameter>& bias = target.linear->bias();
      replace_weight(*target.linear,
                     bias == nullptr ? nullptr : copy_of(bias, target.name + ".bias", false));
    }
    for (const auto& parameter : model_.parts().parameters) {
      if (is_in(parameter->name(), module) && !done_.contains(parameter.get()))
        substitute(parameter, parameter->name());
    }
  }

  void replace_biases(const std::vector<Target>& adapted, bool all) {
    for (const auto& parameter : model_.parts().parameters) {
      if (parameter->name().find("bias") == std::string::npos || done_.contains(parameter.get()))
        continue;
      const bool of_adapted =
          std::any_of(adapted.begin(), adapted.end(), [&](const Target& target) {
            return target.linear != nullptr && target.linear->bias() == parameter;
          });
      if (!of_adapted && !all) continue;
      const std::string& name = parameter->name();
      // PEFT wraps the modules that it adapts and calls what is inside base_layer.
      const std::size_t dot = name.rfind('.');
      substitute(parameter,
                 of_adapted ? name.substr(0, dot) + ".base_layer" + name.substr(dot) : name);
    }
  }

 private:
  static bool is_in(const std::string& name, const std::string& module) {
    return name == module || name.starts_with(module + ".");
  }

  std::shared_ptr<Parameter> copy_of(const std::shared_ptr<Parameter>& base,
                                     const std::string& name, bool substitutes) {
    auto copy = std::make_shared<Parameter>(
        ParameterSpec{kTensorPrefix + name, base->spec().dimensions, {}});
    const ModelParts& parts = model_.parts();
    const auto mapping = std::find_if(parts.mappings.begin(), parts.mappings.end(),
                                      [&](const auto& m) { return m.parameter == base->name(); });
    const bool transposed = mapping != parts.mappings.end() && mapping->parts.size() == 1 &&
                            mapping->parts[0].dimensions == std::vector<std::int64_t>{1, 0};
    replacements_.push_back({base, copy, identity_mapping(copy->spec(), transposed), substitutes});
    done_.insert(base.get());
    return copy;
  }

  void substitute(const std::shared_ptr<Parameter>& base, const std::string& name) {
    base->set_substitute(copy_of(base, name, true));
  }

  template <class Module>
  void replace_weight(Module& module, std::shared_ptr<Parameter> bias) {
    const auto copy = copy_of(module.weight(), module.name() + ".weight", false);
    auto storage = std::make_unique<SwitchedWeight>(state_, copy, std::move(bias));
    SwitchedWeight& placed = *storage;
    placed.set_base(module.set_storage(std::move(storage)));
    modules_done_.insert(module.name());
  }

  Model& model_;
  std::shared_ptr<const AdapterState> state_;
  std::vector<Replacement> replacements_;
  std::set<const Parameter*> done_;
  std::set<std::string> modules_done_;
};

}  // namespace

std::vector<std::string> saved_modules(Model& model, const LoraSettings& settings) {
  const std::vector<std::string> all = module_names(model);
  std::set<std::string> saved;
  for (const std::string& name : settings.modules_to_save) {
    const std::size_t before = saved.size();
    for (const std::string& module : all) {
      if (settings.selection.plain_names ? module.ends_with(name) : is_named(name, module))
        saved.insert(module);
    }
    if (saved.size() == before) {
      throw_bad_input("no module is named so", name, "a module's name, or its end",
                      "peft.modules_to_save", nearest_modules(name, all));
    }
  }
  return {saved.begin(), saved.end()};
}

std::vector<Replacement> replace_modules(Model& model, const LoraSettings& settings,
                                         const std::vector<std::string>& saved,
                                         const std::vector<Target>& adapted,
                                         const std::shared_ptr<const AdapterState>& state) {
  Replacer replacer(model, state);
  for (const std::string& module : saved) replacer.replace_module(module);
  if (settings.bias != "none") replacer.replace_biases(adapted, settings.bias == "all");
  return replacer.take();
}

}  // namespace espalier::lora
