// Model families that break one promise each. `violates` names the check that has to find it.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/nn/linear.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// A decoder with a place to be wrong in every function.
class Wrapped : public Model {
 public:
  explicit Wrapped(const Value& config) : model_(nn::decoder_spec_from_config(config)) {}
  ModelOutput forward(const ModelInput& input) override { return model_.forward(input); }
  Head& head() override { return model_.head(); }
  ModelParts& parts() override { return model_.parts(); }
  std::vector<Tower> towers() override { return model_.towers(); }
  ModelShape shape() const override { return model_.shape(); }
  void set_block_runner(std::shared_ptr<BlockRunner> runner) override {
    model_.set_block_runner(std::move(runner));
  }
  void set_compute_dtype(at::ScalarType dtype) override { model_.set_compute_dtype(dtype); }
  std::unique_ptr<KvCache> make_cache() override { return model_.make_cache(); }
  void set_training(bool training) override { model_.set_training(training); }
  void set_share_prefixes(bool share) override { model_.set_share_prefixes(share); }
  std::int64_t rows(const ModelInput& input) const override { return model_.rows(input); }

 protected:
  nn::DecoderModel model_;
};

class SharesTooMuch final : public Wrapped {
  using Wrapped::Wrapped;
  void set_share_prefixes(bool share) override { share_ = share; }
  ModelOutput forward(const ModelInput& input) override {
    ModelOutput output = model_.forward(input);
    if (share_) output.hidden = output.hidden - output.hidden.mean(0, /*keepdim=*/true) * 0.01;
    return output;
  }
  bool share_ = false;
};

class TakesMemory final : public Wrapped {
 public:
  explicit TakesMemory(const Value& config) : Wrapped(config) {
    for (const auto& parameter : parts().parameters)
      parameter->set_value(at::zeros(parameter->spec().shape()));
  }
};

class OtherShape final : public Wrapped {
  using Wrapped::Wrapped;
  ModelShape shape() const override {
    ModelShape shape = model_.shape();
    shape.vocab_size += 1;
    return shape;
  }
};

class HalfMapped final : public Wrapped {
 public:
  explicit HalfMapped(const Value& config) : Wrapped(config) {
    parts().mappings[1].parts[0].extent[0] /= 2;
  }
};

class OneDiskName final : public Wrapped {
 public:
  explicit OneDiskName(const Value& config) : Wrapped(config) {
    // Two projections of one shape: what is written last is read twice.
    std::vector<DiskTensor*> queries;
    for (DiskMapping& mapping : parts().mappings) {
      if (mapping.parameter.find("q_proj") != std::string::npos)
        queries.push_back(&mapping.parts[0]);
    }
    queries[1]->name = queries[0]->name;
  }
};

class LosesABlock final : public Wrapped {
  using Wrapped::Wrapped;
  std::vector<Tower> towers() override {
    auto towers = model_.towers();
    towers[0].blocks.pop_back();
    return towers;
  }
};

class NoLinears final : public Wrapped {
 public:
  explicit NoLinears(const Value& config) : Wrapped(config) { parts().linears.clear(); }
};

class Restless final : public Wrapped {
  using Wrapped::Wrapped;
  ModelOutput forward(const ModelInput& input) override {
    ModelOutput output = model_.forward(input);
    output.hidden = output.hidden * (1.0 + 0.001 * passes_++);
    return output;
  }
  int passes_ = 0;
};

/// Leaves one tensor of the input aside.
class Without : public Wrapped {
 public:
  Without(const Value& config, std::string name) : Wrapped(config), name_(std::move(name)) {}
  ModelOutput forward(const ModelInput& input) override {
    ModelInput rest = input;
    rest.tensors.erase(name_);
    return model_.forward(rest);
  }

 private:
  std::string name_;
};
class IgnoresPadding final : public Without {
 public:
  explicit IgnoresPadding(const Value& config) : Without(config, "attention_mask") {}
};
class IgnoresDocuments final : public Without {
 public:
  explicit IgnoresDocuments(const Value& config) : Without(config, "cu_seqlens") {}
};

class LooksAhead final : public Wrapped {
  using Wrapped::Wrapped;
  ModelOutput forward(const ModelInput& input) override {
    ModelOutput output = model_.forward(input);
    output.hidden = output.hidden + output.hidden.narrow(0, output.hidden.size(0) - 1, 1);
    return output;
  }
};

class ForgetsCache final : public Wrapped {
  using Wrapped::Wrapped;
  ModelOutput forward(const ModelInput& input) override {
    return model_.forward({input.tensors, nullptr});
  }
};

class WrongGradient final : public Wrapped {
  using Wrapped::Wrapped;
  ModelOutput forward(const ModelInput& input) override {
    ModelOutput output = model_.forward(input);
    output.hidden = output.hidden * 2 - output.hidden.detach();
    return output;
  }
};

class UnusedWeight final : public Wrapped {
 public:
  explicit UnusedWeight(const Value& config) : Wrapped(config) {
    ParameterSpec spec{"model.unused.weight", {nn::dimension("embed", 4)}, {}};
    parts().mappings.push_back(identity_mapping(spec));
    parts().parameters.push_back(std::make_shared<Parameter>(spec));
  }
};

class Float32Only final : public Wrapped {
  using Wrapped::Wrapped;
  void set_compute_dtype(at::ScalarType) override {}
};

template <class T>
class Provider : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<T>(config);
  }
};

class RefusesItsOwn final : public Provider<Wrapped> {
  std::string accepts(const Value&) const override { return "not today"; }
};

class FixedConfig final : public Provider<Wrapped> {
  std::unique_ptr<Model> build(const Value& config) const override {
    Value own = config;
    own.as_table().set("hidden_size", 16);
    return std::make_unique<Wrapped>(own);
  }
};

template <class T>
void add(Registrar& registrar, const char* name, const char* check) {
  registrar.add<ModelProvider, T>(name, "Breaks one promise.").property("violates", check);
}

void register_components(Registrar& registrar) {
  add<RefusesItsOwn>(registrar, "refuses_its_own", "model.accepts");
  add<FixedConfig>(registrar, "fixed_config", "model.bad_config");
  add<Provider<TakesMemory>>(registrar, "takes_memory", "model.meta");
  add<Provider<OtherShape>>(registrar, "other_shape", "model.names");
  add<Provider<HalfMapped>>(registrar, "half_mapped", "model.mappings");
  add<Provider<OneDiskName>>(registrar, "one_disk_name", "model.state_dict");
  add<Provider<LosesABlock>>(registrar, "loses_a_block", "model.blocks");
  add<Provider<NoLinears>>(registrar, "no_linears", "model.linears");
  add<Provider<Restless>>(registrar, "restless", "model.repeatable");
  add<Provider<IgnoresPadding>>(registrar, "ignores_padding", "model.padding");
  add<Provider<IgnoresDocuments>>(registrar, "ignores_documents", "model.packing");
  add<Provider<SharesTooMuch>>(registrar, "shares_too_much", "model.shared_prefixes");
  add<Provider<LooksAhead>>(registrar, "looks_ahead", "model.causal");
  add<Provider<ForgetsCache>>(registrar, "forgets_cache", "model.cache");
  add<Provider<WrongGradient>>(registrar, "wrong_gradient", "model.gradient");
  add<Provider<UnusedWeight>>(registrar, "unused_weight", "model.every_weight");
  registrar.add<ModelProvider, Provider<Wrapped>>("claims_experts", "Breaks one promise.")
      .property("violates", "model.capabilities")
      .property("capabilities", decoder_capabilities({capability::kExperts}));
  add<Provider<Float32Only>>(registrar, "float32_only", "model.low_precision");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.models", "1.0.0", espalier::register_components)
