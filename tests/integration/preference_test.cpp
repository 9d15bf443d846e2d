// Preference data and objectives, and distillation, as a run uses them.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "engine/run/component_library.h"
#include "engine/train/train_step.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "fixture_path.h"
#include "support/datasets.h"
#include "support/process.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::TemporaryFolder;

ComponentLibrary& library() {
  static ComponentLibrary instance;
  return instance;
}

// --- data ---

Sample only_sample(const std::string& line, Table config = {}) {
  const TemporaryFolder folder;
  config.set("path", folder.write("pairs.jsonl", line + "\n"));
  const auto context = testing::text_context("qwen2");
  return testing::open_dataset("preference", config, context)->get(0);
}

std::vector<std::int64_t> labelled(const Sample& sample, std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> labels;
  for (std::int64_t i = begin; i < end; ++i) {
    if (sample.labels[static_cast<std::size_t>(i)] != kIgnoredLabel)
      labels.push_back(sample.labels[static_cast<std::size_t>(i)]);
  }
  return labels;
}

TEST(PreferenceData, APairIsTwoDocumentsWithTheAnswersLabelled) {
  const Sample sample = only_sample(
      R"({"prompt": "What is the capital of Italy?", "chosen": "Rome.", "rejected": "No idea."})");
  ASSERT_EQ(sample.document_starts.size(), 2U);
  const std::int64_t middle = sample.document_starts[1];
  const auto end = static_cast<std::int64_t>(sample.input_ids.size());
  const auto tokenizer = testing::text_context("qwen2").tokenizer;
  const auto text = [&](const std::vector<std::int64_t>& ids) {
    return tokenizer->decode({ids.begin(), ids.end()}, /*skip_special_tokens=*/true);
  };
  EXPECT_EQ(text(labelled(sample, 0, middle)).substr(0, 5), "Rome.");
  EXPECT_EQ(text(labelled(sample, middle, end)).substr(0, 8), "No idea.");
  std::vector<std::int64_t> rejected(sample.input_ids.begin() + middle, sample.input_ids.end());
  EXPECT_NE(text(rejected).find("capital of Italy"), std::string::npos);
}

TEST(PreferenceData, TextsMessagesAndWholeConversationsMeanTheSame) {
  const Sample expected = only_sample(R"({"prompt": "Hi", "chosen": "a b", "rejected": "c d"})");
  for (const char* line :
       {R"({"prompt": [{"role": "user", "content": "Hi"}],
            "chosen": [{"role": "assistant", "content": "a b"}],
            "rejected": [{"role": "assistant", "content": "c d"}]})",
        R"({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a b"}],
            "rejected": [{"role": "user", "content": "Hi"},
                         {"role": "assistant", "content": "c d"}]})"}) {
    std::string one_line = line;
    std::erase(one_line, '\n');
    const Sample sample = only_sample(one_line);
    EXPECT_EQ(sample.input_ids, expected.input_ids);
    EXPECT_EQ(sample.labels, expected.labels);
  }
}

TEST(PreferenceData, EachConversationIsCutByItself) {
  Table config;
  config.set("max_length", 12);
  const Sample sample =
      only_sample(R"({"prompt": "Hi", "chosen": "a b c d e f g h i j", "rejected": "c"})", config);
  EXPECT_EQ(sample.document_starts[1], 12);
  EXPECT_LE(sample.input_ids.size(), 24U);
}

TEST(PreferenceData, APairWithoutOneOfItsAnswersIsRefused) {
  for (const char* line : {R"({"prompt": "Hi", "chosen": "a"})",
                           R"({"prompt": "Hi", "chosen": "a", "rejected": null})",
                           R"({"prompt": "Hi", "chosen": "a", "rejected": []})"}) {
    try {
      only_sample(line);
      FAIL() << line;
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("the pair has no 'rejected' answer"), std::string::npos) << text;
      EXPECT_NE(text.find("pairs.jsonl"), std::string::npos) << text;
    }
  }
}

// --- objectives ---

struct PreferenceRun {
  LoadedModel loaded;
  std::shared_ptr<Adapter> adapter;
  std::shared_ptr<Objective> objective;
  std::shared_ptr<Loss> loss = library().create<Loss>("masked_cross_entropy");
  std::shared_ptr<LrScheduler> schedule = library().create<LrScheduler>("constant");
  std::unique_ptr<ParameterOptimizer> optimizer;

  PreferenceRun(const char* name, const char* config) {
    loaded = library().from_pretrained(fixture_path("models/llama"));
    adapter = library().create<Adapter>("lora");
    adapter->attach(*loaded.model);
    adapter->initialise(*loaded.model, 5);
    objective = library().create<Objective>(name, parse_json(config));
    optimizer = std::make_unique<ParameterOptimizer>(
        library().create<Optimizer>("adamw", parse_json(R"({"lr": 0.03})")), adapter->parameters());
  }
  StepMetrics step(const std::vector<Batch>& batches, std::int64_t number) {
    TrainingParts parts{*loaded.model, *objective, *loss, *optimizer, *schedule};
    parts.adapter = adapter.get();
    return train_step(parts, {batches, 0, {}}, number);
  }
};

/// Two pairs of documents of 6 and 5 tokens, of which the last 3 are answers.
Batch pairs_batch() {
  Batch batch;
  at::manual_seed(11);
  const at::Tensor ids = at::randint(3, 256, {2, 11}, at::kLong);
  at::Tensor labels = ids.clone();
  labels.narrow(1, 0, 3).fill_(-100);
  labels.narrow(1, 6, 2).fill_(-100);
  batch.tensors = {
      {"input_ids", ids},
      {"labels", labels},
      {"cu_seqlens", at::tensor(std::vector<std::int64_t>{0, 6, 11, 0, 6, 11}).view({2, 3})}};
  batch.num_tokens = 22;
  return batch;
}

TEST(Dpo, BeginsAtLogTwoAndLearnsToPreferTheChosenAnswer) {
  for (const char* config : {R"({"beta": 0.5})", R"({"beta": 0.5, "loss_type": "hinge"})",
                             R"({"beta": 0.5, "loss_type": "ipo"})"}) {
    PreferenceRun run("dpo", config);
    const Batch batch = pairs_batch();
    const StepMetrics first = run.step({batch}, 1);
    const bool sigmoid = std::string(config).find("loss_type") == std::string::npos;
    EXPECT_NEAR(first.loss, sigmoid ? std::log(2.0) : 1.0, 1e-4)
        << "policy and reference are the same model";
    EXPECT_NEAR(first.terms.at("reward_margin"), 0.0, 1e-4);
    StepMetrics last;
    for (std::int64_t step = 2; step <= 12; ++step) last = run.step({batch}, step);
    EXPECT_LT(last.loss, 0.7 * first.loss) << config;
    EXPECT_EQ(last.terms.at("reward_accuracy"), 1.0) << config;
    EXPECT_GT(last.terms.at("reward_margin"), 0.1) << config;
  }
}

TEST(Dpo, AStepCutIntoMicroBatchesIsTheSameStep) {
  const Batch batch = pairs_batch();
  std::vector<Batch> parts;
  for (std::int64_t row = 0; row < 2; ++row) {
    Batch part;
    for (const auto& [name, tensor] : batch.tensors)
      part.tensors.emplace(name, tensor.narrow(0, row, 1));
    parts.push_back(std::move(part));
  }
  for (const char* name : {"dpo", "simpo", "orpo"}) {
    PreferenceRun whole(name, "{}");
    PreferenceRun cut(name, "{}");
    for (std::int64_t step = 1; step <= 3; ++step) {
      const StepMetrics expected = whole.step({batch}, step);
      const StepMetrics actual = cut.step(parts, step);
      EXPECT_NEAR(actual.loss, expected.loss, 1e-5 * std::abs(expected.loss)) << name;
      EXPECT_NEAR(actual.grad_norm, expected.grad_norm, 1e-4 * expected.grad_norm) << name;
    }
  }
}

/// Mean log probability of the labelled tokens of one document, computed apart.
double mean_log_probability(Model& model, const at::Tensor& ids, std::int64_t answer) {
  const at::NoGradGuard no_grad;
  const ModelOutput output = model.forward({{{"input_ids", ids.unsqueeze(0)}}});
  const at::Tensor scores = at::log_softmax(model.head().project(output.hidden), -1);
  double sum = 0;
  for (std::int64_t t = ids.size(0) - answer; t < ids.size(0); ++t)
    sum += scores[t - 1][ids[t].item<std::int64_t>()].item<double>();
  return sum / static_cast<double>(answer);
}

TEST(ReferenceFreePreferences, FollowTheirFormulas) {
  const Batch batch = pairs_batch();
  const LoadedModel loaded = library().from_pretrained(fixture_path("models/llama"));
  double simpo = 0;
  double orpo = 0;
  for (std::int64_t row = 0; row < 2; ++row) {
    const at::Tensor ids = batch.get("input_ids")[row];
    const double chosen = mean_log_probability(*loaded.model, ids.narrow(0, 0, 6), 3);
    const double rejected = mean_log_probability(*loaded.model, ids.narrow(0, 6, 5), 3);
    const auto log_odds = [](double log_p) { return log_p - std::log1p(-std::exp(log_p)); };
    const auto softplus = [](double x) { return std::log1p(std::exp(x)); };
    simpo += softplus(-(2.0 * (chosen - rejected) - 1.0)) / 2;
    orpo += (-chosen + 0.1 * softplus(-(log_odds(chosen) - log_odds(rejected)))) / 2;
  }
  EXPECT_NEAR(PreferenceRun("simpo", "{}").step({batch}, 1).loss, simpo, 1e-5 * simpo);
  EXPECT_NEAR(PreferenceRun("orpo", "{}").step({batch}, 1).loss, orpo, 1e-5 * orpo);
}

TEST(Dpo, ABatchThatIsNoPairsIsRefused) {
  PreferenceRun run("dpo", "{}");
  Batch batch = pairs_batch();
  batch.tensors.erase("cu_seqlens");
  EXPECT_THROW(run.step({batch}, 1), Error);
}

TEST(Dpo, WithoutAnAdapterThereIsNoReference) {
  PreferenceRun run("dpo", "{}");
  TrainingParts parts{*run.loaded.model, *run.objective, *run.loss, *run.optimizer, *run.schedule};
  EXPECT_THROW(train_step(parts, {{pairs_batch()}, 0, {}}, 1), Error);
}

// --- distillation ---

testing::ProcessResult distil(const TemporaryFolder& folder, const std::string& teacher) {
  const std::string recipe =
      "output_dir = \"" + folder.file("run") + "\"\n[model]\npath = \"" +
      fixture_path("models/llama") + "\"\n" + teacher +
      "[dataset]\ntype = \"pretokenized\"\npath = \"" +
      fixture_path("training/lora_adamw/data.safetensors") +
      "\"\n[step_scheduler]\nglobal_batch_size = 2\nlocal_batch_size = 1\nmax_steps = 2\n"
      "[objective]\ntype = \"distillation\"\nkd_ratio = 0.75\ntemperature = 2.0\n";
  return testing::run_espalier({"train", folder.write("recipe.toml", recipe), "--quiet"});
}

TEST(Distillation, AStudentThatIsItsTeacherHasTheLabelsAloneToLearn) {
  const TemporaryFolder folder;
  const auto result =
      distil(folder, "[teacher_model]\npath = \"" + fixture_path("models/llama") + "\"\n");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string log = read_file(folder.file("run/training.jsonl"));
  const Value line = parse_json(log.substr(0, log.find('\n')));
  EXPECT_NEAR(line.find_path("terms.kd_loss")->as_float(), 0.0, 1e-6);
  EXPECT_NEAR(line.find("loss")->as_float(), line.find_path("terms.ce_loss")->as_float(), 1e-6);
  EXPECT_GT(line.find("loss")->as_float(), 1.0);
}

TEST(Distillation, ATeacherThatIsMissingOrDoesNotFitIsSaid) {
  const TemporaryFolder folder;
  const auto missing = distil(folder, "");
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_NE(missing.err.find("distillation needs a teacher"), std::string::npos) << missing.err;
  // The same model with half of the vocabulary.
  std::filesystem::create_directories(folder.file("half"));
  Value config = read_json_file(fixture_path("models/llama/config.json"));
  config.as_table().set("vocab_size", 128);
  folder.write("half/config.json", dump_json(config));
  auto tensors = read_tensors(fixture_path("models/llama/model.safetensors"));
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    tensors.at(name) = tensors.at(name).narrow(0, 0, 128);
  write_tensors(folder.file("half/model.safetensors"), tensors);
  // Ids past the half are no matter: the vocabularies are compared first.
  const auto other = distil(folder, "[teacher_model]\npath = \"" + folder.file("half") + "\"\n");
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.err.find("vocabularies of different sizes"), std::string::npos) << other.err;
}

}  // namespace
}  // namespace espalier
