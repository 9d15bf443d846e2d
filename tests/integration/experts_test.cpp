// Mixtures of experts: the load-balancing loss, gradients of experts and router, seats, buffers and
// recurrent caches, on the tiny models of transformers.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/checkpoint/export.h"
#include "engine/run/component_library.h"
#include "engine/run/score.h"
#include "engine/train/train_step.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/expert_dispatcher.h"
#include "espalier/nn/expert_linear.h"
#include "espalier/nn/kv_cache.h"
#include "fixture_path.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;
using Tensors = std::map<std::string, at::Tensor>;

/// A family's model whose config.json has `patch` laid over it, in a dtype.
LoadedModel load(ComponentLibrary& library, const std::string& family, const char* patch = "{}",
                 const char* dtype = "float32") {
  const testing::TemporaryFolder folder;
  const std::string original = fixture_path("families/" + family);
  fs::copy(original, folder.file("model"));
  Value config = read_json_file(original + "/config.json");
  const Value patches = parse_json(patch);
  for (const auto& [key, value] : patches.as_table()) config.as_table().set(key, value);
  folder.write("model/config.json", dump_json(config));
  ModelLoadOptions options;
  options.dtype = dtype;
  options.compute_dtype = dtype;
  return library.from_pretrained(folder.file("model"), options);
}

Tensors expected_of(const std::string& family) {
  return read_tensors(fixture_path("families/" + family + "/expected.safetensors"));
}

ModelInput input_of(const Tensors& expected, const std::string& prefix = {}) {
  ModelInput input;
  for (const char* name : {"input_ids", "attention_mask", "position_ids", "cu_seqlens"}) {
    if (const auto found = expected.find(prefix + name); found != expected.end())
      input.tensors.emplace(name, found->second);
  }
  return input;
}

double term_of(const ModelOutput& output, const std::string& name) {
  for (const AuxiliaryTerm& term : output.auxiliary) {
    if (term.name == name) return term.value.item<double>();
  }
  return -1.0;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// ---- the load-balancing loss ----

constexpr const char* kBalanced = R"({"output_router_logits": true, "router_aux_loss_coef": 0.02})";

class LoadBalance : public ::testing::TestWithParam<const char*> {};

TEST_P(LoadBalance, IsTheLossOfTransformersInTrainingAlone) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, GetParam(), kBalanced);
  const Tensors expected = expected_of(GetParam());
  EXPECT_TRUE(loaded.model->forward(input_of(expected)).auxiliary.empty());
  loaded.model->set_training(true);
  const ModelOutput output = loaded.model->forward(input_of(expected));
  const double reference = expected.at("aux_loss").item<double>();
  EXPECT_NEAR(term_of(output, "aux_loss"), reference, 1e-5 * reference);
  ASSERT_FALSE(output.auxiliary.empty());
  EXPECT_EQ(output.auxiliary[0].weight, 0.02);
  EXPECT_GE(term_of(output, "expert_load_max"), 1.0);
  EXPECT_GE(term_of(output, "experts_idle"), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Families, LoadBalance,
                         ::testing::Values("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LoadBalanceLoss, IsLeftOutUnlessTheConfigAsksForRouterLogits) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, "mixtral");
  loaded.model->set_training(true);
  const ModelOutput output = loaded.model->forward(input_of(expected_of("mixtral")));
  for (const AuxiliaryTerm& term : output.auxiliary) EXPECT_EQ(term.weight, 0.0) << term.name;
  EXPECT_GE(term_of(output, "expert_load_max"), 1.0) << "measured all the same";
}

TEST(LoadBalanceLoss, CountsRealTokensOnly) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, "mixtral", kBalanced);
  loaded.model->set_training(true);
  Tensors expected = expected_of("mixtral");
  const ModelOutput padded = loaded.model->forward(input_of(expected, "padded_left."));
  ModelInput rows;
  rows.tensors = {{"input_ids", expected.at("padded_right.input_ids")},
                  {"attention_mask", expected.at("padded_right.attention_mask")}};
  const ModelOutput other = loaded.model->forward(rows);
  EXPECT_NEAR(term_of(padded, "aux_loss"), term_of(other, "aux_loss"), 1e-6);
}

TEST(LoadBalanceLoss, TrainsTheRouterAndIsReported) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, "mixtral", kBalanced);
  loaded.model->set_training(true);
  const auto loss = library.create<Loss>("masked_cross_entropy");
  const auto schedule = library.create<LrScheduler>("constant");
  const auto objective = library.create<Objective>("language_modeling");
  ParameterOptimizer optimizer(library.create<Optimizer>("sgd"), loaded.model->parts().parameters);
  const Tensors expected = expected_of("mixtral");
  Batch batch;
  batch.tensors = {{"input_ids", expected.at("input_ids")}, {"labels", expected.at("labels")}};
  batch.num_tokens = expected.at("input_ids").numel();
  batch.num_label_tokens = expected.at("num_label_tokens").item<std::int64_t>();
  TrainingParts parts{*loaded.model, *objective, *loss, optimizer, *schedule};
  const StepMetrics metrics = train_step(parts, {{batch, batch}, 0, {}}, 1);
  const double balance = expected.at("aux_loss").item<double>();
  EXPECT_NEAR(metrics.terms.at("aux_loss"), 0.02 * balance, 1e-5 * balance)
      << "the mean over micro-batches";
  EXPECT_NEAR(metrics.loss, metrics.terms.at("loss") + metrics.terms.at("aux_loss"), 1e-6);
  EXPECT_GE(metrics.terms.at("expert_load_max"), 1.0);
}

// ---- experts ----

TEST(Experts, WithoutTokensHaveGradientsOfZero) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, "mixtral");
  Tensors batch = {
      {"input_ids", expected_of("mixtral").at("input_ids").narrow(0, 0, 1).narrow(1, 0, 2)}};
  batch.emplace("labels", batch.at("input_ids"));
  const Tensors scored = score(*loaded.model, batch, {false, true, false});
  int idle = 0;
  int used = 0;
  for (const auto& [name, gradient] : scored) {
    if (name.find(".experts.") == std::string::npos) continue;
    ASSERT_TRUE(gradient.isfinite().all().item<bool>()) << name;
    (gradient.abs().max().item<double>() == 0 ? idle : used) += 1;
  }
  EXPECT_GT(idle, 0);
  EXPECT_GT(used, 0);
}

/// One token at a time, each expert on its own: slow and obvious.
class TokenByToken final : public nn::ExpertDispatcher {
 public:
  at::Tensor run(const at::Tensor& hidden, const nn::Routing& routing, std::int64_t num_experts,
                 const nn::ExpertFunction& experts) override {
    std::vector<at::Tensor> rows;
    for (std::int64_t t = 0; t < hidden.size(0); ++t) {
      at::Tensor sum = at::zeros_like(hidden[t]);
      for (std::int64_t i = 0; i < routing.experts.size(1); ++i) {
        const auto expert = routing.experts[t][i].item<std::int64_t>();
        at::Tensor offsets = at::zeros({num_experts + 1}, at::TensorOptions().dtype(at::kLong));
        offsets.narrow(0, expert + 1, num_experts - expert).fill_(1);
        sum = sum + experts(hidden.narrow(0, t, 1), offsets)[0] * routing.weights[t][i];
      }
      rows.push_back(sum);
    }
    return at::stack(rows);
  }
};

TEST(Experts, CanBeReachedThroughAnotherDispatcher) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, "qwen2_moe");
  const Tensors expected = expected_of("qwen2_moe");
  ASSERT_FALSE(loaded.model->parts().expert_dispatchers.empty());
  for (const auto& [name, seat] : loaded.model->parts().expert_dispatchers)
    *seat = std::make_shared<TokenByToken>();
  const Tensors batch = {{"input_ids", expected.at("input_ids")},
                         {"labels", expected.at("labels")}};
  const Tensors scored = score(*loaded.model, batch, {true, true, false});
  const double scale = expected.at("logits").abs().max().item<double>();
  EXPECT_LT(largest_difference(scored.at("logits"), expected.at("logits")), 1e-5 * scale);
  const std::string router = "grad.model.layers.0.mlp.gate.weight";
  EXPECT_LT(largest_difference(scored.at(router), expected.at(router)),
            1e-4 * expected.at(router).abs().max().item<double>() + 1e-6);
}

/// Doubles what the experts' projection gives, by adding it once more.
class OnceMore final : public nn::ExpertLinearExtension {
 public:
  at::Tensor apply(const nn::ExpertLinear& linear, const at::Tensor& input,
                   const at::Tensor& offsets, at::Tensor output) override {
    EXPECT_EQ(offsets.size(0), linear.weight()->spec().dimensions[0].size() + 1);
    EXPECT_EQ(input.size(0), output.size(0));
    return output * 2;
  }
  std::vector<std::shared_ptr<Parameter>> parameters() const override { return {}; }
};

TEST(Experts, TakeExtensions) {
  ComponentLibrary library;
  const LoadedModel extended = load(library, "mixtral");
  const LoadedModel doubled = load(library, "mixtral");
  for (nn::ExpertLinear* linear : extended.model->parts().expert_linears) {
    if (linear->name().ends_with("down_proj")) linear->add_extension(std::make_shared<OnceMore>());
  }
  for (nn::ExpertLinear* linear : doubled.model->parts().expert_linears) {
    if (linear->name().ends_with("down_proj"))
      linear->weight()->set_value(linear->weight()->value().detach() * 2);
  }
  const ModelInput input = input_of(expected_of("mixtral"));
  EXPECT_LT(largest_difference(extended.model->forward(input).hidden,
                               doubled.model->forward(input).hidden),
            1e-5);
}

TEST(CorrectionBias, IsKeptInFloat32AndNeverTrained) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, "deepseek_v3", "{}", "bfloat16");
  const testing::TemporaryFolder folder;
  export_model(loaded, folder.file("exported"));
  const Tensors written = read_tensors(folder.file("exported/model.safetensors"));
  const Tensors original = read_tensors(fixture_path("families/deepseek_v3/model.safetensors"));
  int found = 0;
  for (const auto& parameter : loaded.model->parts().parameters) {
    if (!parameter->name().ends_with("e_score_correction_bias")) continue;
    ++found;
    parameter->set_trainable(true);
    EXPECT_FALSE(parameter->trainable());
    EXPECT_EQ(parameter->value().scalar_type(), at::kFloat);
    EXPECT_TRUE(written.at(parameter->name()).equal(original.at(parameter->name())));
  }
  EXPECT_GT(found, 0);
}

struct Refusal {
  const char* family;
  const char* patch;
  const char* message;
};

class RefusedMixture : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedMixture, NamesTheReason) {
  ComponentLibrary library;
  std::string message;
  try {
    load(library, GetParam().family, GetParam().patch);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Configs, RefusedMixture,
    ::testing::Values(
        Refusal{"mixtral", R"({"num_experts_per_tok": 9})", "num_experts_per_tok"},
        Refusal{"mixtral", R"({"router_jitter_noise": 0.1})", "router_jitter_noise"},
        Refusal{"gpt_oss", R"({"quantization_config": {"quant_method": "mxfp4"}})", "mxfp4"},
        Refusal{"qwen3_moe", R"({"mlp_only_layers": ["1"]})", "mlp_only_layers"},
        Refusal{"deepseek_v3", R"({"n_group": 3})", "n_group"},
        Refusal{"deepseek_v3", R"({"topk_group": 9})", "topk_group"},
        Refusal{"nemotron_h", R"({"hybrid_override_pattern": "MX", "layers_block_type": null})",
                "hybrid_override_pattern"},
        Refusal{"nemotron_h", R"({"n_groups": 3})", "n_groups"}),
    [](const auto& info) { return std::string(info.param.family) + std::to_string(info.index); });

// ---- recurrent states ----

class Recurrent : public ::testing::TestWithParam<const char*> {};

TEST_P(Recurrent, ContinuesSeveralDocumentsFromTheirStates) {
  ComponentLibrary library;
  const LoadedModel loaded = load(library, GetParam());
  Model& model = *loaded.model;
  const at::NoGradGuard no_grad;
  const at::Tensor ids = expected_of(GetParam()).at("input_ids");
  const at::Tensor whole =
      model.forward(input_of({{"input_ids", ids}})).hidden.unflatten(0, {2, -1});
  const std::unique_ptr<KvCache> cache = model.make_cache();
  std::vector<at::Tensor> parts;
  std::int64_t begin = 0;
  for (const std::int64_t count :
       {std::int64_t{1}, std::int64_t{4}, std::int64_t{1}, ids.size(1) - 6}) {
    ModelInput input = input_of({{"input_ids", ids.narrow(1, begin, count)}});
    input.cache = cache.get();
    parts.push_back(model.forward(input).hidden.unflatten(0, {2, -1}));
    begin += count;
  }
  EXPECT_LT(largest_difference(at::cat(parts, 1), whole), 5e-5 * whole.abs().max().item<double>());
}

INSTANTIATE_TEST_SUITE_P(Families, Recurrent, ::testing::Values("mamba", "nemotron_h"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Config, MayHoldNumbersThatAreNotFinite) {
  const testing::TemporaryFolder folder;
  fs::copy(fixture_path("families/nemotron_h"), folder.file("model"));
  std::string text = read_file(folder.file("model/config.json"));
  text.replace(text.find('{'), 1,
               R"({ "time_step_limit": [0.0, Infinity], "note": "NaN \" Infinity",)");
  folder.write("model/config.json", text);
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(folder.file("model"));
  EXPECT_EQ(loaded.config.find("note")->as_string(), "NaN \" Infinity");
  const testing::TemporaryFolder target;
  export_model(loaded, target.file("exported"));
  EXPECT_NE(read_file(target.file("exported/config.json")).find("Infinity"), std::string::npos);
}

}  // namespace
}  // namespace espalier
