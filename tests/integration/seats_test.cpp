// Each seat of the architecture whose production user comes later, held by a small second
// implementation: a strategy that gathers and frees parameters, an int8 weight, a LoRA, an
// objective with two forward passes.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include "engine/run/component_library.h"
#include "engine/run/score.h"
#include "engine/train/train_step.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "fixture_path.h"

namespace espalier {
namespace {

using testing::fixture_path;
using Tensors = std::map<std::string, at::Tensor>;

LoadedModel load_llama(ComponentLibrary& library) {
  return library.from_pretrained(fixture_path("models/llama"));
}

Tensors llama_batch() {
  Tensors expected = read_tensors(fixture_path("models/llama/expected.safetensors"));
  return {{"input_ids", expected.at("input_ids")}, {"labels", expected.at("labels")}};
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// ---- a strategy that holds gathered parameters only while their block runs ----

/// The leaf's values in a tensor of its own; its gradient goes back to the leaf, where ranks would
/// reduce it.
struct Gather : torch::autograd::Function<Gather> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& leaf) {
    return leaf.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list grads) {
    return grads;
  }
};

void set_held(const at::Tensor& gathered, const at::Tensor& leaf, bool held) {
  const at::NoGradGuard no_grad;
  c10::StorageImpl* storage = gathered.storage().unsafeGetStorageImpl();
  at::native::resize_bytes_cpu(storage, held ? leaf.nbytes() : 0);
  // A raw copy: autograd must not see a new version of what it saved.
  if (held) std::memcpy(gathered.data_ptr(), leaf.const_data_ptr(), leaf.nbytes());
}

class GatherAndFreeRunner final : public BlockRunner {
 public:
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    std::vector<std::pair<at::Tensor, at::Tensor>> pairs;  // gathered, leaf
    for (const auto& parameter : block.parameters()) {
      pairs.emplace_back(Gather::apply(parameter->value()), parameter->value());
      parameter->set_view(pairs.back().first);
      gathered_.push_back(pairs.back().first);
    }
    state = block.forward(std::move(state), context);
    for (const auto& parameter : block.parameters()) parameter->set_view({});
    for (const auto& [gathered, leaf] : pairs) set_held(gathered, leaf, false);
    if (state.hidden.requires_grad()) {
      state.hidden.register_hook([pairs](const at::Tensor& grad) {
        for (const auto& [gathered, leaf] : pairs) set_held(gathered, leaf, true);
        return grad;
      });
    }
    return state;
  }

  std::size_t bytes_held() const {
    std::size_t bytes = 0;
    for (const at::Tensor& tensor : gathered_) bytes += tensor.storage().nbytes();
    return bytes;
  }
  std::size_t gathers() const { return gathered_.size(); }

 private:
  std::vector<at::Tensor> gathered_;
};

TEST(Seats, AStrategyGathersAndFreesParametersAroundEachBlock) {
  ComponentLibrary library;
  const LoadedModel plain = load_llama(library);
  const LoadedModel sharded = load_llama(library);
  const auto runner = std::make_shared<GatherAndFreeRunner>();
  sharded.model->set_block_runner(runner);

  const ModelOutput output =
      sharded.model->forward({{{"input_ids", llama_batch().at("input_ids")}}});
  EXPECT_GT(runner->gathers(), 10u);
  EXPECT_EQ(runner->bytes_held(), 0u) << "nothing stays gathered after the forward pass";
  EXPECT_TRUE(output.hidden.defined());

  const Tensors expected = score(*plain.model, llama_batch(), {true, true, false});
  const Tensors actual = score(*sharded.model, llama_batch(), {true, true, false});
  for (const auto& [name, tensor] : expected) EXPECT_TRUE(tensor.equal(actual.at(name))) << name;
}

// ---- int8 weights ----

class Int8Weight final : public nn::WeightStorage {
 public:
  explicit Int8Weight(const at::Tensor& weight) {
    const at::NoGradGuard no_grad;
    scale_ = weight.abs().amax({1}, true).clamp_min(1e-12).div(127.0);
    values_ = weight.div(scale_).round().to(at::kChar);
  }
  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override {
    return at::linear(input, dense(input.scalar_type()), bias);
  }
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override {
    return dense(dtype).index_select(0, ids);
  }
  at::Tensor dense(at::ScalarType dtype) const override {
    return values_.to(dtype).mul(scale_.to(dtype));
  }
  std::vector<std::shared_ptr<Parameter>> components() const override { return {}; }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(values_.nbytes() + scale_.nbytes());
  }

 private:
  at::Tensor values_;
  at::Tensor scale_;
};

TEST(Seats, AWeightStorageIsReplacedWithoutTouchingTheModel) {
  ComponentLibrary library;
  const LoadedModel rounded = load_llama(library);
  const LoadedModel quantised = load_llama(library);
  std::int64_t bytes = 0;
  std::int64_t dense_bytes = 0;
  for (std::size_t i = 0; i < quantised.model->parts().linears.size(); ++i) {
    nn::Linear& linear = *quantised.model->parts().linears[i];
    auto storage = std::make_unique<Int8Weight>(linear.weight()->value());
    dense_bytes += linear.storage().bytes();
    bytes += storage->bytes();
    rounded.model->parts().linears[i]->weight()->set_value(storage->dense(at::kFloat));
    linear.set_storage(std::move(storage));
  }
  EXPECT_LT(bytes, dense_bytes / 2);
  const Tensors expected = score(*rounded.model, llama_batch(), {true, false, false});
  const Tensors actual = score(*quantised.model, llama_batch(), {true, false, false});
  EXPECT_LT(largest_difference(expected.at("logits"), actual.at("logits")), 1e-5);
}

// ---- LoRA, held against PEFT ----

class Lora final : public nn::LinearExtension {
 public:
  Lora(const std::string& name, at::Tensor a, at::Tensor b, double scale)
      : a_(make(name + ".lora_A.weight", std::move(a))),
        b_(make(name + ".lora_B.weight", std::move(b))),
        scale_(scale) {}

  at::Tensor apply(const nn::Linear&, const at::Tensor& input, at::Tensor output) override {
    return output + at::linear(at::linear(input, a_->computed()), b_->computed()) * scale_;
  }
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {a_, b_}; }

 private:
  static std::shared_ptr<Parameter> make(const std::string& name, at::Tensor value) {
    ParameterSpec spec;
    spec.name = name;
    for (const std::int64_t size : value.sizes()) spec.dimensions.push_back({{{"lora", size, 1}}});
    auto parameter = std::make_shared<Parameter>(spec);
    parameter->set_value(std::move(value));
    return parameter;
  }

  std::shared_ptr<Parameter> a_;
  std::shared_ptr<Parameter> b_;
  double scale_;
};

TEST(Seats, AnExtensionAddsLoraToNamedLinears) {
  ComponentLibrary library;
  const LoadedModel loaded = load_llama(library);
  const Tensors adapter = read_tensors(fixture_path("lora/llama_qv/adapter_model.safetensors"));
  const Tensors expected = read_tensors(fixture_path("lora/llama_qv/expected.safetensors"));
  const Value config = read_json_file(fixture_path("lora/llama_qv/adapter_config.json"));
  const double scale = config.find("lora_alpha")->as_float() / config.find("r")->as_float();

  for (const auto& parameter : loaded.model->parts().parameters) parameter->set_trainable(false);
  std::vector<std::shared_ptr<Parameter>> trained;
  for (nn::Linear* linear : loaded.model->parts().linears) {
    const std::string name = "base_model.model." + linear->name();
    if (!adapter.contains(name + ".lora_A.weight")) continue;
    const auto lora = std::make_shared<Lora>(name, adapter.at(name + ".lora_A.weight"),
                                             adapter.at(name + ".lora_B.weight"), scale);
    linear->add_extension(lora);
    for (const auto& parameter : lora->parameters()) trained.push_back(parameter);
  }
  ASSERT_EQ(trained.size(), adapter.size());

  const Tensors batch = {{"input_ids", expected.at("input_ids")},
                         {"labels", expected.at("labels")}};
  const Tensors actual = score(*loaded.model, batch, {true, true, false});
  const double scale_of_logits = expected.at("logits").abs().max().item<double>();
  EXPECT_LT(largest_difference(actual.at("logits"), expected.at("logits")), 1e-5 * scale_of_logits);
  for (const auto& parameter : trained) {
    const at::Tensor& reference = expected.at("grad." + parameter->name());
    EXPECT_LT(largest_difference(parameter->value().grad(), reference),
              1e-4 * reference.abs().max().item<double>() + 1e-7)
        << parameter->name();
  }
  for (const auto& parameter : loaded.model->parts().parameters) {
    EXPECT_FALSE(parameter->value().grad().defined()) << parameter->name() << " is frozen";
  }
}

// ---- an objective with two forward passes ----

/// KL(model before training || model now) over all positions: a second, gradient-free forward pass
/// as reference.
class StayClose final : public Objective {
 public:
  double weight(const Batch& batch) const override { return static_cast<double>(batch.num_tokens); }
  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    at::Tensor reference;
    context.reference([&] { reference = log_probabilities(context.model, batch); });
    EXPECT_FALSE(reference.requires_grad());
    const at::Tensor policy = log_probabilities(context.model, batch);
    const at::Tensor divergence = (reference.exp() * (reference - policy)).sum();
    return {{"kl", divergence, weight(batch)}, {"l2", policy.square().sum(), weight(batch), 0.5}};
  }

 private:
  static at::Tensor log_probabilities(Model& model, const Batch& batch) {
    const ModelOutput output = model.forward({batch.tensors});
    const auto scope = model.head().scope();
    return at::log_softmax(model.head().project(output.hidden), -1);
  }
};

TEST(Seats, AnObjectiveRunsSeveralForwardsAndTerms) {
  ComponentLibrary library;
  const LoadedModel loaded = load_llama(library);
  const auto loss = library.create<Loss>("masked_cross_entropy");
  const auto schedule = library.create<LrScheduler>("constant");
  ParameterOptimizer optimizer(library.create<Optimizer>("sgd"), loaded.model->parts().parameters);
  StayClose objective;
  Batch batch;
  batch.tensors = {{"input_ids", llama_batch().at("input_ids")}};
  batch.num_tokens = llama_batch().at("input_ids").numel();
  TrainingParts parts{*loaded.model, objective, *loss, optimizer, *schedule};
  const StepMetrics metrics = train_step(parts, {{batch, batch}, 0, {}}, 1);
  EXPECT_NEAR(metrics.terms.at("kl"), 0.0, 1e-4) << "the model has not moved yet";
  EXPECT_GT(metrics.terms.at("l2"), 1.0);
  EXPECT_NEAR(metrics.loss, metrics.terms.at("kl") + metrics.terms.at("l2"), 1e-6 * metrics.loss);
}

}  // namespace
}  // namespace espalier
