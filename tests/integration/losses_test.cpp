// Losses that save memory, distillation and preference losses, held against the reference cases.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/run/component_library.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/linear.h"
#include "espalier/ops/distillation.h"
#include "espalier/ops/preference.h"
#include "espalier/sdk/loss.h"
#include "fixture_path.h"

namespace espalier {
namespace {

using testing::fixture_path;
using Tensors = std::map<std::string, at::Tensor>;

ComponentLibrary& library() {
  static ComponentLibrary instance;
  return instance;
}

std::vector<Value> cases(const std::string& prefix) {
  std::vector<Value> chosen;
  const Value document = read_json_file(fixture_path("losses/cases.json"));
  for (const Value& entry : document.find("cases")->as_array()) {
    if (entry.find("name")->as_string().starts_with(prefix)) chosen.push_back(entry);
  }
  return chosen;
}

Tensors tensors_of(const Value& entry) {
  return read_tensors(fixture_path("losses/" + entry.find("name")->as_string() + ".safetensors"));
}

double number(const Value& entry, const char* key, double otherwise) {
  const Value* value = entry.find("parameters")->find(key);
  return value == nullptr ? otherwise : value->as_float();
}

Table loss_config(const Value& entry) {
  Table config;
  for (const char* key : {"label_smoothing", "z_loss", "soft_cap"}) {
    if (const Value* value = entry.find("parameters")->find(key)) config.set(key, *value);
  }
  return config;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// A plain output projection, and how many rows it was asked for at most.
class PlainHead final : public Head {
 public:
  PlainHead(const at::Tensor& weight, const at::Tensor& bias) {
    const nn::LinearSpec spec{
        {{{"vocab", weight.size(0), 1}}}, {{{"embed", weight.size(1), 1}}}, bias.defined()};
    linear_ = std::make_unique<nn::Linear>(nn::ModuleScope(parts_, block_, "head"), spec);
    linear_->weight()->set_value(weight);
    if (bias.defined()) linear_->bias()->set_value(bias);
  }
  std::int64_t vocab_size() const override { return linear_->weight()->value().size(0); }
  std::shared_ptr<void> scope() override { return nullptr; }
  at::Tensor project(const at::Tensor& rows) override {
    most_rows = std::max(most_rows, rows.size(0));
    return linear_->forward(rows);
  }
  nn::Linear& linear() override { return *linear_; }

  std::int64_t most_rows = 0;

 private:
  ModelParts parts_;
  std::vector<std::shared_ptr<Parameter>> block_;
  std::unique_ptr<nn::Linear> linear_;
};

/// 1e-6; of 16 bits: one unit in the last place of the largest.
double gradient_limit(const at::Tensor& gradient) {
  if (gradient.scalar_type() == at::kFloat) return 1e-6;
  const int digits = gradient.scalar_type() == at::kBFloat16 ? 7 : 10;
  return std::ldexp(1.0, std::ilogb(gradient.abs().max().item<double>()) - digits);
}

TEST(ChunkedCrossEntropy, AgreesWithTheReferenceForEveryChunkSize) {
  int checked = 0;
  for (const Value& entry : cases("ce_")) {
    for (const std::int64_t chunk : {1, 4, 7, 64}) {
      SCOPED_TRACE(entry.find("name")->as_string() + ", chunks of " + std::to_string(chunk));
      Tensors tensors = tensors_of(entry);
      Table config = loss_config(entry);
      config.set("chunk_len", chunk);
      at::Tensor labels = tensors.at("labels").flatten();
      if (tensors.contains("mask"))
        labels = labels.masked_fill(tensors.at("mask").flatten().eq(0), -100);
      const at::Tensor logits = tensors.at("logits").clone().requires_grad_(true);
      const auto loss = library().create<Loss>("chunked_cross_entropy", config);
      double divisor = number(entry, "num_label_tokens", 1.0);
      const Value* reduction = entry.find("parameters")->find("reduction");
      if (reduction != nullptr && reduction->as_string() == "mean")
        divisor = labels.ne(-100).sum().item<double>();
      const at::Tensor value =
          loss->from_logits(logits.flatten(0, -2), labels) / std::max(divisor, 1.0);
      value.backward();
      const double want = tensors.at("loss").item<double>();
      EXPECT_NEAR(value.item<double>(), want, 1e-5 * std::abs(want));
      const at::Tensor& gradient = tensors.at("grad_logits");
      EXPECT_LE(largest_difference(logits.grad(), gradient), gradient_limit(gradient));
      ++checked;
    }
  }
  EXPECT_GE(checked, 44);
}

TEST(MaskedCrossEntropy, ALabelOfTheUsersChoiceIsIgnoredToo) {
  const at::Tensor logits = at::randn({5, 8});
  const at::Tensor labels = at::tensor(std::vector<std::int64_t>{0, 3, 0, -100, 7});
  const at::Tensor without = labels.masked_fill(labels.eq(0), -100);
  for (const char* name :
       {"masked_cross_entropy", "chunked_cross_entropy", "fused_linear_cross_entropy"}) {
    const at::Tensor expected = library().create<Loss>(name)->from_logits(logits, without);
    const at::Tensor actual = library()
                                  .create<Loss>(name, parse_json(R"({"ignore_index": 0})"))
                                  ->from_logits(logits, labels);
    EXPECT_EQ(actual.item<float>(), expected.item<float>()) << name;
  }
}

TEST(FusedLinearCrossEntropy, AgreesWithTheReferenceInEveryCase) {
  const std::vector<Value> entries = cases("linear_ce_");
  EXPECT_EQ(entries.size(), 3U);
  for (const Value& entry : entries) {
    SCOPED_TRACE(entry.find("name")->as_string());
    Tensors tensors = tensors_of(entry);
    const bool biased = tensors.contains("bias");
    PlainHead head(tensors.at("weight"), biased ? tensors.at("bias") : at::Tensor());
    const at::Tensor hidden = tensors.at("hidden").clone().requires_grad_(true);
    const auto loss = library().create<Loss>("fused_linear_cross_entropy", loss_config(entry));
    const at::Tensor sum =
        loss->from_hidden(hidden.flatten(0, -2), tensors.at("labels").flatten(), head);
    sum.backward();
    const double want = tensors.at("loss").item<double>();
    EXPECT_NEAR(sum.item<double>(), want, 1e-5 * std::abs(want));
    EXPECT_LE(largest_difference(hidden.grad(), tensors.at("grad_hidden")), 1e-6);
    const at::Tensor weight_gradient = head.linear().weight()->value().grad();
    EXPECT_LE(largest_difference(weight_gradient, tensors.at("grad_weight")), 1e-6);
    if (biased) {
      EXPECT_LE(largest_difference(head.linear().bias()->value().grad(), tensors.at("grad_bias")),
                1e-6);
    }
  }
}

TEST(FusedLinearCrossEntropy, ManyChunksGiveTheSumsOfTheUnfusedLossInBoundedMemory) {
  constexpr std::int64_t kVocab = 3000;
  const at::Tensor weight = at::randn({kVocab, 16}) * 0.3;
  const at::Tensor labels = at::randint(0, kVocab, {301}, at::kLong);
  labels.slice(0, 0, 301, 3).fill_(-100);
  const at::Tensor values = at::randn({301, 16});
  std::vector<Tensors> results;
  for (const char* name : {"masked_cross_entropy", "fused_linear_cross_entropy"}) {
    PlainHead head(weight.clone(), {});
    const at::Tensor hidden = values.clone().requires_grad_(true);
    const bool fused = std::string(name).starts_with("fused");
    const Value config = fused ? parse_json(R"({"chunk_megabytes": 1})") : Value(Table());
    const at::Tensor sum = library().create<Loss>(name, config)->from_hidden(hidden, labels, head);
    EXPECT_TRUE(!fused || head.most_rows * kVocab * 4 <= 1'000'000) << head.most_rows;
    (sum * 0.25).backward();
    results.push_back({{"loss", sum.detach()},
                       {"hidden", hidden.grad()},
                       {"weight", head.linear().weight()->value().grad()}});
    const at::NoGradGuard no_grad;
    EXPECT_EQ(library().create<Loss>(name, config)->from_hidden(hidden, labels, head).item<float>(),
              sum.item<float>());
  }
  for (const auto& [name, tensor] : results[0]) {
    EXPECT_LE(largest_difference(tensor, results[1].at(name)),
              1e-6 * tensor.abs().max().item<double>())
        << name;
  }
}

/// More rows than a block has, more words than a tile; the head never makes logits.
TEST(FusedLinearCrossEntropy, AFrozenHeadGoesByTilesOfTheVocabulary) {
  constexpr std::int64_t kVocab = 3001;
  constexpr std::int64_t kRows = 2100;
  const at::Tensor weight = at::randn({kVocab, 16}) * 0.5;
  const at::Tensor labels = at::randint(0, kVocab, {kRows}, at::kLong);
  labels.slice(0, 0, kRows, 50).fill_(-100);
  const at::Tensor values = at::randn({kRows, 16});
  for (const char* settings :
       {"{}", R"({"label_smoothing": 0.1})", R"({"z_loss": 0.01})",
        R"({"label_smoothing": 0.2, "z_loss": 0.001})", R"({"soft_cap": 5.0})"}) {
    SCOPED_TRACE(settings);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      std::vector<Tensors> results;
      for (const char* name : {"masked_cross_entropy", "fused_linear_cross_entropy"}) {
        PlainHead head(weight.to(dtype), {});
        head.linear().weight()->set_trainable(false);
        Value config = parse_json(settings);
        const bool fused = std::string(name).starts_with("fused");
        if (fused) config.as_table().set("chunk_megabytes", 1);
        const at::Tensor hidden = values.detach().to(dtype).clone().requires_grad_(true);
        const auto loss = library().create<Loss>(name, config);
        const at::Tensor sum = loss->from_hidden(hidden, labels, head);
        (sum * 0.25).backward();
        const bool tiled = config.find("soft_cap") == nullptr;
        if (fused && tiled) {
          EXPECT_EQ(head.most_rows, 0);
        }
        EXPECT_EQ(head.linear().storage().components().size(), 1U);  // its own storage is back
        results.push_back({{"loss", sum.detach()}, {"hidden", hidden.grad()}});
      }
      for (const auto& [name, tensor] : results[0]) {
        EXPECT_LE(largest_difference(tensor, results[1].at(name)),
                  (dtype == at::kFloat ? 2e-6 : 2e-2) * tensor.abs().max().item<double>())
            << name << " " << dtype;
      }
    }
  }
}

TEST(FusedLinearCrossEntropy, ALabelOutsideTheVocabularyIsAClearError) {
  PlainHead head(at::randn({7, 4}), {});
  for (const bool trainable : {false, true}) {
    head.linear().weight()->set_trainable(trainable);
    const at::Tensor hidden = at::randn({3, 4}).requires_grad_(true);
    const auto loss = library().create<Loss>("fused_linear_cross_entropy");
    EXPECT_THROW(loss->from_hidden(hidden, at::full({3}, 7, at::kLong), head), Error);
    EXPECT_EQ(head.project(at::randn({1, 4})).requires_grad(),
              trainable);  // nothing is left behind
  }
}

TEST(FusedLinearCrossEntropy, NoLabelGivesZeroWithZeroGradients) {
  PlainHead head(at::randn({7, 4}), {});
  const at::Tensor hidden = at::randn({3, 4}).requires_grad_(true);
  const at::Tensor sum = library()
                             .create<Loss>("fused_linear_cross_entropy")
                             ->from_hidden(hidden, at::zeros({3}, at::kLong).sub(100), head);
  sum.backward();
  EXPECT_EQ(sum.item<float>(), 0.0F);
  EXPECT_EQ(hidden.grad().abs().max().item<float>(), 0.0F);
}

TEST(FusedLinearCrossEntropy, ReachesAnAdapterOnTheHead) {
  std::vector<Tensors> results;
  for (const char* name : {"masked_cross_entropy", "fused_linear_cross_entropy"}) {
    const LoadedModel loaded = library().from_pretrained(fixture_path("models/llama"));
    const auto adapter = library().create<Adapter>(
        "lora", parse_json(R"({"target_modules": ["lm_head", "q_proj"], "use_dora": true})"));
    adapter->attach(*loaded.model);
    adapter->initialise(*loaded.model, 3);
    Tensors batch = read_tensors(fixture_path("models/llama/expected.safetensors"));
    const ModelOutput output = loaded.model->forward({{{"input_ids", batch.at("input_ids")}}});
    const at::Tensor labels = predicted_labels(output.layout, batch.at("labels"), false);
    library()
        .create<Loss>(name)
        ->from_hidden(output.hidden, labels, loaded.model->head())
        .backward();
    Tensors gradients;
    for (const auto& parameter : adapter->parameters())
      gradients.emplace(parameter->name(), parameter->value().grad());
    results.push_back(gradients);
  }
  for (const auto& [name, gradient] : results[0]) {
    ASSERT_TRUE(results[1].at(name).defined()) << name;
    EXPECT_LE(largest_difference(gradient, results[1].at(name)),
              1e-5 * gradient.abs().max().item<double>() + 1e-7)
        << name;
  }
}

TEST(DistillationLoss, AgreesWithTheReferenceInEveryCase) {
  const std::vector<Value> entries = cases("kd_");
  EXPECT_EQ(entries.size(), 6U);
  for (const Value& entry : entries) {
    SCOPED_TRACE(entry.find("name")->as_string());
    Tensors tensors = tensors_of(entry);
    const at::Tensor student = tensors.at("student").clone().requires_grad_(true);
    const at::Tensor labels = tensors.at("labels").flatten();
    const bool reverse = entry.find("parameters")->find("reverse")->as_bool();
    const at::Tensor sum =
        ops::distillation(student.flatten(0, -2), tensors.at("teacher").flatten(0, -2), labels,
                          reverse ? ops::Divergence::kReverse : ops::Divergence::kForward,
                          number(entry, "temperature", 1.0));
    const at::Tensor loss = sum / labels.ne(-100).sum();
    loss.backward();
    const double want = tensors.at("loss").item<double>();
    EXPECT_NEAR(loss.item<double>(), want, 1e-5 * std::abs(want));
    EXPECT_LE(largest_difference(student.grad(), tensors.at("grad_student")), 1e-6);
  }
}

TEST(DistillationLoss, KnownValues) {
  const at::Tensor teacher = at::tensor({3.0F, 1.0F}).log().unsqueeze(0);
  const at::Tensor student = at::zeros({1, 2});
  const at::Tensor labels = at::zeros({1}, at::kLong);
  const auto value = [&](ops::Divergence divergence, double temperature) {
    return ops::distillation(student, teacher, labels, divergence, temperature).item<double>();
  };
  EXPECT_NEAR(value(ops::Divergence::kForward, 1), 0.130812035941137, 1e-6);
  EXPECT_NEAR(value(ops::Divergence::kForward, 2), 0.1453632, 1e-6);
  // Half of 3/4 log(6/5) + 1/4 log(2/3) + 1/2 log(4/5) + 1/2 log(4/3).
  EXPECT_NEAR(value(ops::Divergence::kJensenShannon, 1), 0.0338221, 1e-6);
  const at::Tensor none =
      ops::distillation(student, teacher, labels.sub(100), ops::Divergence::kForward, 1);
  EXPECT_EQ(none.item<float>(), 0.0F);
}

TEST(PreferenceLoss, AgreesWithTheReferenceInEveryCase) {
  const std::vector<Value> entries = cases("dpo_");
  EXPECT_EQ(entries.size(), 8U);
  for (const Value& entry : entries) {
    const std::string name = entry.find("name")->as_string();
    SCOPED_TRACE(name);
    Tensors tensors = tensors_of(entry);
    const at::Tensor chosen = tensors.at("policy_chosen").clone().requires_grad_(true);
    const at::Tensor rejected = tensors.at("policy_rejected").clone().requires_grad_(true);
    ops::PreferenceOptions options;
    if (name.starts_with("dpo_hinge")) options.shape = ops::PreferenceShape::kHinge;
    if (name.starts_with("dpo_ipo")) options.shape = ops::PreferenceShape::kIpo;
    options.beta = number(entry, "beta", 0);
    options.label_smoothing = number(entry, "label_smoothing", 0);
    const at::Tensor margins =
        (chosen - tensors.at("ref_chosen")) - (rejected - tensors.at("ref_rejected"));
    const at::Tensor loss = ops::preference_losses(margins, options).mean();
    loss.backward();
    const double want = tensors.at("loss").item<double>();
    EXPECT_NEAR(loss.item<double>(), want, 1e-5 * std::abs(want));
    const double scale = std::max(1.0, tensors.at("grad_policy_chosen").abs().max().item<double>());
    EXPECT_LE(largest_difference(chosen.grad(), tensors.at("grad_policy_chosen")), 1e-6 * scale);
    EXPECT_LE(largest_difference(rejected.grad(), tensors.at("grad_policy_rejected")),
              1e-6 * scale);
  }
}

}  // namespace
}  // namespace espalier
