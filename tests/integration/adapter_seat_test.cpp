// Adapters on models in memory: what is selected, what is computed, and what is left undone.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "engine/run/component_library.h"
#include "engine/run/score.h"
#include "engine/train/train_step.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/linear.h"
#include "fixture_path.h"
#include "product_counter.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::ProductCounter;
using Tensors = std::map<std::string, at::Tensor>;

struct AdaptedModel {
  LoadedModel loaded;
  std::shared_ptr<Adapter> adapter;
};

AdaptedModel adapted(ComponentLibrary& library, const char* model, const std::string& config) {
  AdaptedModel result;
  result.loaded = library.from_pretrained(fixture_path(std::string("models/") + model));
  result.adapter = library.create<Adapter>("lora", parse_json(config));
  result.adapter->attach(*result.loaded.model);
  result.adapter->initialise(*result.loaded.model, 7);
  return result;
}

/// Names of the adapted modules.
std::vector<std::string> modules_of(const Adapter& adapter) {
  std::vector<std::string> names;
  for (const auto& parameter : adapter.parameters()) {
    const std::string& name = parameter->name();
    for (const char* part : {".lora_A", ".lora_embedding_A"}) {
      const std::size_t place = name.find(part);
      const std::size_t prefix = std::string("base_model.model.").size();
      if (place != std::string::npos) names.push_back(name.substr(prefix, place - prefix));
    }
  }
  return names;
}

void fill(const Adapter& adapter, double scale) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : adapter.parameters())
    parameter->set_value(at::randn(parameter->spec().shape()) * scale);
}

Tensors batch_of(const char* model) {
  Tensors expected =
      read_tensors(fixture_path(std::string("models/") + model + "/expected.safetensors"));
  return {{"input_ids", expected.at("input_ids")}, {"labels", expected.at("labels")}};
}

using Names = std::vector<std::string>;

TEST(AdapterSelection, NamesEndsWildcardsAndRegularExpressions) {
  ComponentLibrary library;
  const auto chosen = [&](const std::string& patterns) {
    return modules_of(
        *adapted(library, "llama", R"({"target_modules": [)" + patterns + "]}").adapter);
  };
  EXPECT_EQ(chosen(R"("q_proj")"),
            (Names{"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"}));
  EXPECT_EQ(chosen(R"("mlp.up_proj")"),
            (Names{"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}));
  EXPECT_EQ(chosen(R"("*.layers.1.*down*")"), (Names{"model.layers.1.mlp.down_proj"}));
  EXPECT_EQ(chosen(R"(".*\\.0\\..*(gate|up)_proj")"),
            (Names{"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"}));
  EXPECT_EQ(chosen(R"("lm_head", "embed_tokens")"), (Names{"model.embed_tokens", "lm_head"}));
  EXPECT_EQ(adapted(library, "llama", "{}").adapter->parameters().size(), 28U)
      << "every linear but the head";
}

TEST(AdapterSelection, ExclusionsAndLayersNarrowTheChoice) {
  ComponentLibrary library;
  const auto chosen = [&](const char* config) {
    return modules_of(*adapted(library, "llama", config).adapter);
  };
  EXPECT_EQ(chosen(R"({"target_modules": ["*_proj"], "exclude_modules": ["*.mlp.*", "o_proj"],
                       "layers_to_transform": [1]})"),
            (Names{"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
                   "model.layers.1.self_attn.v_proj"}));
}

TEST(AdapterSelection, ADotInAWildcardIsADot) {
  ComponentLibrary library;
  EXPECT_THROW(adapted(library, "llama", R"({"target_modules": ["*.layers.1*q.proj"]})"), Error);
}

TEST(Adapters, ANewOneChangesNothingAndOneThatIsOffNeither) {
  ComponentLibrary library;
  for (const char* config :
       {R"({"bias": "all", "modules_to_save": ["lm_head", "norm"]})",
        R"({"use_dora": true, "target_modules": ["q_proj", "embed_tokens"]})"}) {
    const Tensors batch = batch_of("llama");
    const LoadedModel plain = library.from_pretrained(fixture_path("models/llama"));
    const at::Tensor expected = score(*plain.model, batch, {true, false, false}).at("logits");
    const AdaptedModel model = adapted(library, "llama", config);
    const auto difference = [&] {
      const Tensors actual = score(*model.loaded.model, batch, {true, false, false});
      return (actual.at("logits") - expected).abs().max().item<double>();
    };
    EXPECT_LT(difference(), 2e-5) << "rounding of the magnitudes alone";
    fill(*model.adapter, 0.2);
    EXPECT_GT(difference(), 1e-2);
    model.adapter->set_enabled(false);
    EXPECT_EQ(difference(), 0.0);
    model.adapter->set_enabled(true);
    EXPECT_GT(difference(), 1e-2);
  }
}

int products_of_a_step(const AdaptedModel& model) {
  const ProductCounter counter;
  score(*model.loaded.model, batch_of("llama"), {false, true, false}, model.adapter.get());
  return ProductCounter::count();
}

TEST(Adapters, NoProductIsComputedForFrozenWeightsNorBelowTheFirstTrainableLayer) {
  ComponentLibrary library;
  // Forward: 7 linears in each of 2 layers, and the head; 2 more for each adapted module.
  // Backward with q_proj and v_proj of layer 1 alone: the head; down, gate and up, o (inputs of
  // each); nothing for v's and q's own inputs, whose layer is the first that trains; and the
  // gradients of B, of A and of what lies between, for both.
  const AdaptedModel last = adapted(
      library, "llama", R"({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]})");
  EXPECT_EQ(products_of_a_step(last), (2 * 7 + 1 + 2 * 2) + (1 + 4 + 2 * 3));
  // In layer 0 too: all linears of layer 1 pass a gradient on, and its two modules one more each.
  const AdaptedModel both =
      adapted(library, "llama", R"({"target_modules": ["q_proj", "v_proj"]})");
  EXPECT_EQ(products_of_a_step(both), (2 * 7 + 1 + 4 * 2) + (1 + 7 + 2 * 4) + (4 + 2 * 3));
  for (const auto& parameter : both.loaded.model->parts().parameters)
    EXPECT_FALSE(parameter->value().grad().defined()) << parameter->name();
}

/// Keeps what a reference pass sees.
class ReferenceProbe final : public Objective {
 public:
  double weight(const Batch&) const override { return 1; }
  std::vector<ObjectiveTerm> compute(const ObjectiveContext& context, const Batch& batch) override {
    context.reference([&] { reference = logits(context.model, batch); });
    policy = logits(context.model, batch);
    return {{"loss", policy.square().mean(), 1}};
  }
  at::Tensor reference;
  at::Tensor policy;

 private:
  static at::Tensor logits(Model& model, const Batch& batch) {
    const ModelOutput output = model.forward({batch.tensors});
    const auto scope = model.head().scope();
    return model.head().project(output.hidden);
  }
};

TEST(Adapters, AReferencePassSeesTheModelAsItWasBeforeTraining) {
  ComponentLibrary library;
  const AdaptedModel model = adapted(library, "llama", R"({"bias": "all", "dropout": 0.2,
                                     "modules_to_save": ["lm_head"]})");
  fill(*model.adapter, 0.2);
  const LoadedModel plain = library.from_pretrained(fixture_path("models/llama"));
  const auto loss = library.create<Loss>("masked_cross_entropy");
  const auto schedule = library.create<LrScheduler>("constant");
  ParameterOptimizer optimizer(library.create<Optimizer>("sgd"), model.adapter->parameters());
  ReferenceProbe objective;
  Batch batch;
  batch.tensors = {{"input_ids", batch_of("llama").at("input_ids")}};
  TrainingParts parts{*model.loaded.model, objective, *loss, optimizer, *schedule};
  parts.adapter = model.adapter.get();
  train_step(parts, {{batch}, 0, {}}, 1);
  const Tensors expected = score(*plain.model, batch_of("llama"), {true, false, false});
  EXPECT_TRUE(objective.reference.reshape({-1}).equal(expected.at("logits").reshape({-1})));
  EXPECT_FALSE(objective.policy.reshape({-1}).equal(expected.at("logits").reshape({-1})));
  EXPECT_TRUE(model.adapter->enabled());
}

TEST(Adapters, LoraPlusGivesTheSecondMatrixItsOwnLearningRate) {
  ComponentLibrary library;
  const AdaptedModel model =
      adapted(library, "llama", R"({"loraplus_lr_ratio": 16.0, "target_modules": ["q_proj"]})");
  fill(*model.adapter, 0.1);
  const auto groups = model.adapter->parameter_groups();
  ParameterOptimizer optimizer(library.create<Optimizer>("sgd"), model.adapter->parameters(),
                               groups);
  std::map<std::string, at::Tensor> before;
  for (const auto& parameter : model.adapter->parameters()) {
    before.emplace(parameter->name(), parameter->value().detach().clone());
    parameter->value().mutable_grad() = at::ones_like(parameter->value().detach());
  }
  optimizer.step(1, 0.001);
  for (const auto& parameter : model.adapter->parameters()) {
    const bool is_b = parameter->name().ends_with("lora_B.weight");
    const double moved =
        (before.at(parameter->name()) - parameter->value()).abs().max().item<double>();
    EXPECT_NEAR(moved, is_b ? 0.016 : 0.001, 1e-5) << parameter->name();
  }
}

}  // namespace
}  // namespace espalier
