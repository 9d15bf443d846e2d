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

TEST(UnpairedPreferenceData, AnAnswerIsADocumentWithItsMark) {
  const TemporaryFolder folder;
  Table config;
  config.set("path", folder.write("answers.jsonl",
                                  R"({"prompt": "Hi", "completion": "a b", "label": false})"
                                  "\n"));
  const auto context = testing::text_context("qwen2");
  const Sample sample = testing::open_dataset("unpaired_preference", config, context)->get(0);
  EXPECT_TRUE(sample.document_starts.empty());
  EXPECT_EQ(sample.numbers, (std::vector<std::pair<std::string, double>>{{"desirable", 0.0}}));
  const Sample pair = only_sample(R"({"prompt": "Hi", "chosen": "a b", "rejected": "c d"})");
  EXPECT_EQ(sample.input_ids,
            std::vector<std::int64_t>(pair.input_ids.begin(),
                                      pair.input_ids.begin() + pair.document_starts[1]));
}

TEST(UnpairedPreferenceData, AnAnswerWithoutAMarkIsRefused) {
  for (const char* line :
       {R"({"prompt": "Hi", "completion": "a"})", R"({"prompt": "Hi", "label": true})",
        R"({"prompt": "Hi", "completion": "a", "label": "yes"})"}) {
    const TemporaryFolder folder;
    Table config;
    config.set("path", folder.write("answers.jsonl", std::string(line) + "\n"));
    try {
      testing::open_dataset("unpaired_preference", config, testing::text_context("qwen2"));
      FAIL() << line;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("answers.jsonl"), std::string::npos) << error.what();
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

// --- KTO, held against TRL's formulas ---

std::map<std::string, at::Tensor> kto_reference() {
  return read_tensors(fixture_path("losses/kto_trl.safetensors"));
}

Batch kto_batch() {
  const auto reference = kto_reference();
  Batch batch;
  for (const char* name : {"input_ids", "labels", "attention_mask", "desirable"})
    batch.tensors.emplace(name, reference.at(name));
  return batch;
}

/// The tiny llama with an adapter that PEFT has trained.
struct KtoRun {
  LoadedModel loaded = library().from_pretrained(fixture_path("models/llama"));
  std::shared_ptr<Adapter> adapter = library().create<Adapter>("lora");
  std::shared_ptr<Loss> loss = library().create<Loss>("masked_cross_entropy");

  KtoRun() {
    adapter->open(fixture_path("lora/llama_qv"));
    adapter->attach(*loaded.model);
    adapter->initialise(*loaded.model, 0);
  }
  std::vector<ObjectiveTerm> terms(Objective& objective, const Batch& batch) {
    const ObjectiveContext context{*loaded.model, *loss,
                                   [this](const std::function<void()>& work) {
                                     const at::NoGradGuard no_grad;
                                     adapter->set_enabled(false);
                                     work();
                                     adapter->set_enabled(true);
                                   },
                                   nullptr, true};
    return objective.compute(context, batch);
  }
};

TEST(Kto, LossDivergenceAndGradientsAreThoseOfTrl) {
  const auto reference = kto_reference();
  const std::map<std::string, const char*> configs = {
      {"kto", R"({"beta": 0.3, "undesirable_weight": 1.5})"},
      {"apo", R"({"beta": 0.2, "loss_type": "apo_zero_unpaired", "desirable_weight": 1.2})"}};
  for (const auto& [name, config] : configs) {
    KtoRun run;
    const auto objective = library().create<Objective>("kto", parse_json(config));
    const std::vector<ObjectiveTerm> terms = run.terms(*objective, kto_batch());
    const at::Tensor loss = terms.at(0).sum / terms.at(0).weight;
    const auto expected = reference.at(name + ".loss").item<double>();
    EXPECT_NEAR(loss.item<double>(), expected, 1e-5 * expected) << name;
    if (name == "kto") {
      const auto kl = reference.at("kto.kl").item<double>();
      EXPECT_GT(kl, 0.0);
      EXPECT_EQ(terms.at(3).name, "kl");
      EXPECT_NEAR(terms.at(3).sum.item<double>() / terms.at(3).weight, kl, 1e-4 * kl);
    }
    loss.backward();
    std::size_t compared = 0;
    for (const auto& parameter : run.adapter->parameters()) {
      const auto found = reference.find(name + ".grad." + parameter->name());
      if (found == reference.end()) continue;
      ++compared;
      const double largest = found->second.abs().max().item<double>();
      EXPECT_LE((parameter->value().grad() - found->second).abs().max().item<double>(),
                1e-4 * largest + 1e-7)
          << parameter->name();
    }
    EXPECT_EQ(compared, 4U);
  }
}

TEST(Kto, MarksStayWithTheirAnswersInPackedRows) {
  KtoRun run;
  const auto objective = library().create<Objective>("kto", parse_json("{}"));
  const Batch padded = kto_batch();
  const TokenLayout layout = make_layout({padded.tensors});
  Batch packed;
  packed.tensors = {{"input_ids", layout.flatten(padded.get("input_ids")).unsqueeze(0)},
                    {"labels", layout.flatten(padded.get("labels")).unsqueeze(0)},
                    {"cu_seqlens", at::tensor(layout.document_starts, at::kLong)},
                    {"desirable", padded.get("desirable")}};
  EXPECT_NEAR(run.terms(*objective, packed).at(0).sum.item<double>(),
              run.terms(*objective, padded).at(0).sum.item<double>(), 1e-5);
}

TEST(Kto, WhatItCannotLearnFromIsSaid) {
  KtoRun run;
  const auto refusal = [&](const Batch& batch) -> std::string {
    try {
      run.terms(*library().create<Objective>("kto", parse_json("{}")), batch);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  Batch unmarked = kto_batch();
  unmarked.tensors.erase("desirable");
  EXPECT_NE(refusal(unmarked).find("does not say which answers are good"), std::string::npos);
  Batch one;
  for (const auto& [name, tensor] : kto_batch().tensors)
    one.tensors.emplace(name, tensor.narrow(0, 0, 1));
  EXPECT_NE(refusal(one).find("no estimate of the divergence"), std::string::npos);
}

TEST(Kto, ARunLearnsFromMarkedAnswers) {
  const TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 8; ++i) {
    lines += R"({"prompt": "Say it", "completion": ")" + std::string(i % 2 == 0 ? "yes" : "no") +
             R"(", "label": )" + (i % 2 == 0 ? "true" : "false") + "}\n";
  }
  // A model with the vocabulary of the tokenizer, and its template.
  const std::string model = folder.file("model");
  std::filesystem::create_directories(model);
  for (const auto& entry : std::filesystem::directory_iterator(fixture_path("tokenizers/qwen2")))
    std::filesystem::copy(entry.path(), model + "/" + entry.path().filename().string());
  Value config = read_json_file(fixture_path("models/llama/config.json"));
  config.as_table().set("vocab_size", static_cast<std::int64_t>(
                                          testing::text_context("qwen2").tokenizer->vocab_size()));
  write_file_atomically(model + "/config.json", dump_json(config));
  const std::string recipe =
      "output_dir = \"" + folder.file("run") + "\"\n[model]\npath = \"" + model +
      "\"\nfrom_config = true\n[peft]\ntype = \"lora\"\n[dataset]\ntype = "
      "\"unpaired_preference\"\npath = \"" +
      folder.write("answers.jsonl", lines) +
      "\"\n[step_scheduler]\nglobal_batch_size = 8\nlocal_batch_size = 4\nmax_steps = 12\n"
      "[objective]\ntype = \"kto\"\n[optimizer]\ntype = \"adamw\"\nlr = 0.05\n";
  const auto result =
      testing::run_espalier({"train", folder.write("recipe.toml", recipe), "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string log = read_file(folder.file("run/training.jsonl"));
  const Value first = parse_json(log.substr(0, log.find('\n')));
  const std::string rest = log.substr(0, log.size() - 1);
  const Value last = parse_json(rest.substr(rest.rfind('\n') + 1));
  EXPECT_NEAR(first.find("loss")->as_float(), 0.5, 1e-3);
  EXPECT_LT(last.find("loss")->as_float(), 0.49);
  EXPECT_GT(last.find_path("terms.reward_desirable")->as_float(),
            last.find_path("terms.reward_undesirable")->as_float());
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
