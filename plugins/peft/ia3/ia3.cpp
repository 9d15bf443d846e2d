// IA3 (Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
// In-Context Learning"): a vector of scales for each chosen linear, with PEFT's semantics and
// files.
#include <ATen/ops/ones.h>

#include <algorithm>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/embedding.h"
#include "espalier/peft/adapter_files.h"
#include "espalier/sdk/adapter.h"
#include "espalier/sdk/plugin.h"
#include "ia3_config.h"
#include "ia3_module.h"

namespace espalier::ia3 {
namespace {

using peft::Target;

std::vector<std::string> names_of(const std::vector<Target>& targets) {
  std::vector<std::string> names;
  names.reserve(targets.size());
  for (const Target& target : targets) names.push_back(target.name);
  return names;
}

class Ia3Adapter final : public Adapter {
 public:
  using Config = Ia3Config;
  explicit Ia3Adapter(const Ia3Config& config) : settings_(settings_from(config)) {
    if (!config.path.empty()) open(config.path);
  }

  void open(const std::string& folder) override {
    settings_ =
        settings_from_peft(peft::read_adapter_config(folder), folder + "/adapter_config.json");
    folder_ = folder;
  }

  void attach(Model& model) override {
    const std::vector<Target> targets = peft::select_modules(model, settings_.targets, {});
    const std::vector<std::string> feedforward = feedforward_of(model, targets);
    for (const auto& parameter : model.parts().parameters) parameter->set_trainable(false);
    for (const Target& target : targets) {
      if (target.linear == nullptr) {
        throw_bad_input("an embedding can't be scaled", target.name, "names of linears",
                        "peft.target_modules");
      }
      const bool scales_input =
          std::find(feedforward.begin(), feedforward.end(), target.name) != feedforward.end();
      const auto module = std::make_shared<ScaledLinear>(*target.linear, scales_input, enabled_);
      target.linear->add_extension(module);
      modules_.push_back(module);
      parameters_.push_back(module->scale());
      mappings_.push_back(identity_mapping(module->scale()->spec()));
      transposed_ = transposed_ || is_transposed(model, *target.linear->weight());
    }
    auto& added = model.parts().added_parameters;
    added.insert(added.end(), parameters_.begin(), parameters_.end());
  }

  bool initialises_without_weights() const override { return true; }
  void initialise(Model&, std::uint64_t) override {
    const at::ScalarType dtype = scalar_type_from_name(settings_.dtype);
    if (!folder_.empty()) {
      const std::vector<at::ScalarType> dtypes(parameters_.size(), dtype);
      const auto left_over = peft::read_adapter_values(folder_, parameters_, mappings_, dtypes);
      if (!left_over.empty())
        throw_bad_input("a tensor of the adapter belongs to no part of it",
                        left_over.begin()->first, {}, folder_);
      return;
    }
    for (const auto& parameter : parameters_)
      parameter->set_value(at::ones(parameter->spec().shape(), dtype));
  }

  const std::vector<std::shared_ptr<Parameter>>& parameters() const override { return parameters_; }
  const std::vector<DiskMapping>& mappings() const override { return mappings_; }
  void begin_pass(const PassPosition&) override {}
  void set_enabled(bool enabled) override { *enabled_ = enabled; }
  bool enabled() const override { return *enabled_; }

  void save(const std::string& folder, const std::string& base_model,
            const WholeValue& value) const override {
    std::vector<std::string> names;
    std::vector<std::string> feedforward;
    std::map<std::string, at::Tensor> tensors;
    for (const auto& module : modules_) {
      names.push_back(module->name());
      if (module->scales_input()) feedforward.push_back(module->name());
      tensors.emplace(module->scale()->name(), value(*module->scale()));
    }
    std::sort(names.begin(), names.end());
    std::sort(feedforward.begin(), feedforward.end());
    const Value config = peft_config(settings_, names, feedforward, transposed_, base_model);
    write_file_atomically(folder + "/adapter_config.json", dump_json(config, 2) + "\n");
    write_tensors(folder + "/adapter_model.safetensors", tensors, {{"format", "pt"}});
  }

  void merge(Model& model) override {
    check_weights(model);
    for (const auto& module : modules_) module->merge(/*inverse=*/false);
    set_enabled(false);
  }

  void unmerge(Model& model) override {
    check_weights(model);
    for (const auto& module : modules_) {
      if (module->scale()->value().ne(0).all().item<bool>()) continue;
      throw Error(Problem{ErrorCode::kUnsupported,
                          "a scale of zero has taken away what was in the weight",
                          {},
                          {},
                          module->scale()->name(),
                          "take the model from before the merge"});
    }
    for (const auto& module : modules_) module->merge(/*inverse=*/true);
    set_enabled(false);
  }

 private:
  static bool is_transposed(Model& model, const Parameter& weight) {
    const ModelParts& parts = model.parts();
    return std::any_of(parts.mappings.begin(), parts.mappings.end(), [&](const auto& mapping) {
      return mapping.parameter == weight.name() &&
             mapping.parts.front().dimensions == std::vector<std::int64_t>{1, 0};
    });
  }

  /// Names of the targets whose input is scaled.
  std::vector<std::string> feedforward_of(Model& model, const std::vector<Target>& targets) const {
    std::vector<std::string> chosen;
    if (settings_.plain_ends) {
      for (const Target& target : targets) {
        const bool found =
            settings_.feedforward_regex.empty()
                ? std::any_of(settings_.feedforward.begin(), settings_.feedforward.end(),
                              [&](const auto& end) { return target.name.ends_with(end); })
                : peft::matches_regex(settings_.feedforward_regex, target.name);
        if (found) chosen.push_back(target.name);
      }
      return chosen;
    }
    if (settings_.feedforward.empty()) return chosen;
    peft::Selection selection;
    selection.targets = settings_.feedforward;
    const std::vector<std::string> adapted = names_of(targets);
    for (const std::string& name : names_of(peft::select_modules(model, selection, {}))) {
      if (std::find(adapted.begin(), adapted.end(), name) != adapted.end()) chosen.push_back(name);
    }
    if (chosen.empty()) {
      throw_bad_input("no feedforward module is one of the adapted modules",
                      settings_.feedforward.front(), "a part of target_modules",
                      "peft.feedforward_modules",
                      peft::nearest_modules(settings_.feedforward.front(), adapted));
    }
    return chosen;
  }

  /// A weight that several modules share holds one value; a quantised one holds none.
  void check_weights(Model& model) const {
    const auto refuse = [](const std::string& what, const std::string& where, const char* hint) {
      throw Error(Problem{ErrorCode::kUnsupported, what, {}, {}, where, hint});
    };
    for (const auto& module : modules_) {
      const std::shared_ptr<Parameter>& weight = module->linear().weight();
      if (!at::isFloatingType(weight->value().scalar_type()) || weight->value().is_meta())
        refuse("the weight of '" + module->name() + "' is quantised and can't hold a scale",
               module->name(), "merge into the unquantised model");
      for (const Target& target : peft::targets_of(model)) {
        const auto& used =
            target.linear != nullptr ? target.linear->weight() : target.embedding->weight();
        if (used == weight && target.name != module->name())
          refuse("the adapter changes '" + module->name() + "', whose weight is tied with '" +
                     target.name + "'",
                 weight->name(), "use the adapter beside its base model (--adapter)");
      }
    }
  }

  Ia3Settings settings_;
  std::string folder_;  ///< values come from here; empty: they are ones
  std::shared_ptr<bool> enabled_ = std::make_shared<bool>(true);
  std::vector<std::shared_ptr<ScaledLinear>> modules_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<DiskMapping> mappings_;
  bool transposed_ = false;
};

void register_components(Registrar& registrar) {
  registrar.add<Adapter, Ia3Adapter>("ia3", "learnt scales beside a frozen model (IA3)")
      .serves("peft_types", {"IA3"})
      .alias("peft.IA3Config");
}

}  // namespace
}  // namespace espalier::ia3

ESPALIER_PLUGIN("espalier.ia3", "0.1.0", espalier::ia3::register_components)
