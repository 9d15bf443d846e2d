// A scale for each output of the chosen linears, y * (1 + s), after IA3. Liu et al. 2022, "Few-Shot
// Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning".
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <espalier/base/atomic_file.h>
#include <espalier/base/error.h>
#include <espalier/base/json.h>
#include <espalier/io/tensor_io.h>
#include <espalier/nn/linear.h>
#include <espalier/sdk/adapter.h>
#include <espalier/sdk/plugin.h>

#include <algorithm>

namespace {

struct {{Name}}Config {
  std::vector<std::string> target_modules = {"q_proj", "v_proj"};

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>().field(
        "target_modules", &{{Name}}Config::target_modules, "last parts of the names of linears");
  }
};

struct Scale final : espalier::nn::LinearExtension {
  Scale(std::shared_ptr<espalier::Parameter> scale, std::shared_ptr<const bool> enabled)
      : scale(std::move(scale)), enabled(std::move(enabled)) {}
  at::Tensor apply(const espalier::nn::Linear&, const at::Tensor&, at::Tensor output) override {
    return *enabled ? output * (scale->computed() + 1).to(output.scalar_type()) : output;
  }
  std::vector<std::shared_ptr<espalier::Parameter>> parameters() const override { return {scale}; }

  std::shared_ptr<espalier::Parameter> scale;  // [out]
  std::shared_ptr<const bool> enabled;
};

class {{Name}} final : public espalier::Adapter {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(Config config) : config_(std::move(config)) {}

  void open(const std::string& folder) override { folder_ = folder; }

  void attach(espalier::Model& model) override {
    for (const auto& parameter : model.parts().parameters) parameter->set_trainable(false);
    for (espalier::nn::Linear* linear : model.parts().linears) {
      const std::string last = linear->name().substr(linear->name().rfind('.') + 1);
      const auto& targets = config_.target_modules;
      if (std::find(targets.begin(), targets.end(), last) == targets.end()) continue;
      const espalier::ParameterSpec spec{
          linear->name() + ".scale", {linear->weight()->spec().dimensions[0]}, {}};
      parameters_.push_back(std::make_shared<espalier::Parameter>(spec));
      mappings_.push_back(espalier::identity_mapping(spec));
      linears_.push_back(linear);
      linear->add_extension(std::make_shared<Scale>(parameters_.back(), enabled_));
    }
    if (linears_.empty())
      espalier::throw_bad_input("no linear of the model has one of these names", {},
                                "names such as q_proj", "peft.target_modules");
  }

  void initialise(espalier::Model&, std::uint64_t) override {
    std::map<std::string, at::Tensor> saved;
    if (!folder_.empty()) saved = espalier::read_tensors(folder_ + "/adapter_model.safetensors");
    for (const auto& parameter : parameters_)
      parameter->set_value(folder_.empty() ? at::zeros(parameter->spec().shape())
                                           : saved.at(parameter->name()));
  }

  const std::vector<std::shared_ptr<espalier::Parameter>>& parameters() const override {
    return parameters_;
  }
  const std::vector<espalier::DiskMapping>& mappings() const override { return mappings_; }
  void begin_pass(const espalier::PassPosition&) override {}
  void set_enabled(bool enabled) override { *enabled_ = enabled; }
  bool enabled() const override { return *enabled_; }

  void save(const std::string& folder, const std::string& base_model,
            const espalier::WholeValue& value) const override {
    espalier::Table config;
    config.set("peft_type", "{{NAME}}");
    config.set("base_model_name_or_path", base_model);
    espalier::write_file_atomically(folder + "/adapter_config.json",
                                    espalier::dump_json(espalier::Value(config), 2) + "\n");
    std::map<std::string, at::Tensor> tensors;
    for (const auto& parameter : parameters_) tensors[parameter->name()] = value(*parameter);
    espalier::write_tensors(folder + "/adapter_model.safetensors", tensors);
  }
  void merge(espalier::Model&) override { multiply([](at::Tensor w, const at::Tensor& s) { w.mul_(s); }); }
  void unmerge(espalier::Model&) override { multiply([](at::Tensor w, const at::Tensor& s) { w.div_(s); }); }

 private:
  template <class Operation>
  void multiply(const Operation& operation) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < linears_.size(); ++i) {
      const at::Tensor scale = parameters_[i]->value() + 1;  // [out]
      operation(linears_[i]->weight()->value(), scale.unsqueeze(-1));
      if (linears_[i]->bias()) operation(linears_[i]->bias()->value(), scale);
    }
    *enabled_ = false;
  }

  Config config_;
  std::string folder_;  // where values come from; empty: they are new
  std::shared_ptr<bool> enabled_ = std::make_shared<bool>(true);
  std::vector<espalier::nn::Linear*> linears_;
  std::vector<std::shared_ptr<espalier::Parameter>> parameters_;
  std::vector<espalier::DiskMapping> mappings_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Adapter, {{Name}}>("{{name}}", "a scale for each output of linears")
      .serves("peft_types", {"{{NAME}}"});
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
