// Adapters and kernel packs that break one promise each. `violates` names the check that has to
// find it.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "espalier/base/random.h"
#include "espalier/io/initial_value.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/linear.h"
#include "espalier/ops/gated_activation.h"
#include "espalier/sdk/adapter.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// One scale for each output of every linear: y * (1 + s), with s starting at 0.
struct Scale final : nn::LinearExtension {
  std::shared_ptr<Parameter> scale;
  std::shared_ptr<bool> enabled;
  double offset = 0;
  bool detached = false;
  double noise = 0;
  int* passes = nullptr;

  at::Tensor apply(const nn::Linear&, const at::Tensor&, at::Tensor output) override {
    if (!*enabled) return output;
    at::Tensor factor = scale->computed();
    if (detached) factor = factor.detach();
    if (passes != nullptr) factor = factor + noise * static_cast<double>(++*passes);
    return output * (factor + (1.0 + offset));
  }
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {scale}; }
};

class Scales : public Adapter {
 public:
  void open(const std::string& folder) override { folder_ = folder; }
  void attach(Model& model) override {
    freeze(model);
    for (nn::Linear* linear : model.parts().linears) {
      const ParameterSpec spec{
          linear->name() + ".scale", {linear->weight()->spec().dimensions[0]}, {}};
      auto extension = std::make_shared<Scale>();
      extension->scale = std::make_shared<Parameter>(spec);
      extension->enabled = enabled_;
      configure(*extension);
      parameters_.push_back(extension->scale);
      mappings_.push_back(identity_mapping(spec));
      linear->add_extension(extension);
      linears_.emplace_back(linear, extension->scale);
    }
  }
  void initialise(Model&, std::uint64_t seed) override {
    std::map<std::string, at::Tensor> saved;
    if (!folder_.empty()) saved = read_tensors(folder_ + "/adapter_model.safetensors");
    for (const auto& parameter : parameters_)
      parameter->set_value(folder_.empty() ? start(parameter->spec(), seed)
                                           : saved.at(parameter->name()));
  }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const override { return parameters_; }
  const std::vector<DiskMapping>& mappings() const override { return mappings_; }
  void begin_pass(const PassPosition&) override {}
  void set_enabled(bool enabled) override { *enabled_ = enabled; }
  bool enabled() const override { return *enabled_; }
  void save(const std::string& folder, const std::string&, const WholeValue& value) const override {
    std::map<std::string, at::Tensor> tensors;
    for (const auto& parameter : parameters_)
      tensors[parameter->name()] = stored(value(*parameter));
    write_tensors(folder + "/adapter_model.safetensors", tensors);
  }
  void merge(Model&) override { multiply(false); }
  void unmerge(Model&) override { multiply(true); }

 protected:
  virtual void freeze(Model& model) {
    for (const auto& parameter : model.parts().parameters) parameter->set_trainable(false);
  }
  virtual void configure(Scale&) {}
  virtual at::Tensor start(const ParameterSpec& spec, std::uint64_t) {
    return at::zeros(spec.shape());
  }
  virtual at::Tensor stored(const at::Tensor& value) const { return value; }
  virtual double merge_factor() const { return 1.0; }

  void multiply(bool back) {
    const at::NoGradGuard no_grad;
    for (const auto& [linear, scale] : linears_) {
      const at::Tensor factor = (scale->value() * merge_factor() + 1.0).unsqueeze(-1);
      at::Tensor weight = linear->weight()->value();
      back ? weight.div_(factor) : weight.mul_(factor);
    }
    *enabled_ = false;
  }

  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<DiskMapping> mappings_;
  std::vector<std::pair<nn::Linear*, std::shared_ptr<Parameter>>> linears_;
  std::shared_ptr<bool> enabled_ = std::make_shared<bool>(true);
  std::string folder_;
};

class NotTheIdentity final : public Scales {
  void configure(Scale& scale) override { scale.offset = 0.1; }
};
class LooksAtWeights final : public Scales {
  void initialise(Model& model, std::uint64_t seed) override {
    Scales::initialise(model, seed);
    if (!model.parts().parameters.front()->value().is_meta()) return;
    for (const auto& parameter : parameters_) parameter->set_value(parameter->value() + 0.5);
  }
  bool initialises_without_weights() const override { return true; }
};
class NoGradient final : public Scales {
  void configure(Scale& scale) override { scale.detached = true; }
};
class TrainsTheModel final : public Scales {
  void freeze(Model&) override {}
};
class LosesAMapping final : public Scales {
  void attach(Model& model) override {
    Scales::attach(model);
    mappings_.pop_back();
  }
};
class OwnSeed final : public Scales {
  at::Tensor start(const ParameterSpec& spec, std::uint64_t) override {
    static std::uint64_t instances = 0;
    ParameterSpec drawn = spec;
    drawn.initialisation = {Initialisation::Kind::kNormal, 1e-9};
    return initial_value(drawn, at::kFloat, ++instances);
  }
};
class NeverOff final : public Scales {
  void set_enabled(bool) override {}
};
class MergesTwice final : public Scales {
  double merge_factor() const override { return 2.0; }
};
class RoundsFiles final : public Scales {
  at::Tensor stored(const at::Tensor& value) const override {
    return value.to(at::kBFloat16).to(at::kFloat);
  }
};
class CountsPasses final : public Scales {
  void configure(Scale& scale) override {
    scale.noise = 0.01;
    scale.passes = &passes_;
  }
  int passes_ = 0;
};

/// SiLU gating, right but for one thing.
class Pack : public KernelPack {
 public:
  std::string unavailable() const override { return {}; }
  std::vector<ops::OpImplementation> implementations() const override {
    const auto forward = [this](const ops::Tensors& in, const ops::OpAttributes& attributes,
                                ops::Saved& saved) -> ops::Tensors {
      saved.tensors = in;
      return {gate(in, attributes)};
    };
    const auto backward = [](const ops::Saved& saved, const ops::OpAttributes&,
                             const ops::Tensors& grads, const std::vector<bool>&) -> ops::Tensors {
      const at::Tensor& x = saved.tensors[0];
      const at::Tensor s = x.sigmoid();
      return {grads[0] * saved.tensors[1] * s * ((1 - s) * x + 1), grads[0] * x * s};
    };
    const auto supports = [](const ops::Tensors& in, const ops::OpAttributes& attributes) {
      return in[0].scalar_type() == at::kFloat && attributes.integers[0] == 0;
    };
    return {{"gated_activation", name(), priority(), supports, forward, backward}};
  }

 protected:
  virtual at::Tensor gate(const ops::Tensors& in, const ops::OpAttributes&) const {
    return in[0] * in[0].sigmoid() * in[1];
  }
  virtual std::string name() const { return "wrong"; }
  virtual int priority() const { return 10; }
};

class AssumesContiguous final : public Pack {
  at::Tensor gate(const ops::Tensors& in, const ops::OpAttributes& attributes) const override {
    if (in[0].is_contiguous() || in[0].numel() == 0) return Pack::gate(in, attributes);
    const at::Tensor misread = in[0].as_strided(in[0].sizes(), {in[0].size(1), 1});
    return Pack::gate({misread, in[1]}, attributes);
  }
};
class WritesToItsInput final : public Pack {
  at::Tensor gate(const ops::Tensors& in, const ops::OpAttributes&) const override {
    return at::Tensor(in[1]).mul_(in[0] * in[0].sigmoid());
  }
};
class Nameless final : public Pack {
  std::string name() const override { return "reference"; }
};

template <class I, class T>
void add(Registrar& registrar, const char* name, const char* check) {
  registrar.add<I, T>(name, "Breaks one promise.").property("violates", check);
}

void register_components(Registrar& registrar) {
  add<Adapter, NotTheIdentity>(registrar, "not_the_identity", "adapter.identity");
  add<Adapter, NoGradient>(registrar, "no_gradient", "adapter.gradients");
  add<Adapter, TrainsTheModel>(registrar, "trains_the_model", "adapter.gradients");
  add<Adapter, LosesAMapping>(registrar, "loses_a_mapping", "adapter.names");
  add<Adapter, OwnSeed>(registrar, "own_seed", "adapter.seed");
  add<Adapter, LooksAtWeights>(registrar, "looks_at_weights", "adapter.without_weights");
  add<Adapter, NeverOff>(registrar, "never_off", "adapter.switch");
  add<Adapter, MergesTwice>(registrar, "merges_twice", "adapter.merge");
  add<Adapter, RoundsFiles>(registrar, "rounds_files", "adapter.files");
  add<Adapter, CountsPasses>(registrar, "counts_passes", "adapter.repeatable");
  add<KernelPack, AssumesContiguous>(registrar, "assumes_contiguous", "kernel_pack.numbers");
  add<KernelPack, WritesToItsInput>(registrar, "writes_to_its_input", "kernel_pack.numbers");
  add<KernelPack, Nameless>(registrar, "nameless", "kernel_pack.declared");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.adapters", "1.0.0", espalier::register_components)
