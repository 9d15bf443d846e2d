// The program with adapters in PEFT's format, held against PEFT's own numbers.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "fixture_path.h"
#include "support/process.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;
using testing::run_espalier;
using testing::TemporaryFolder;
using Tensors = std::map<std::string, at::Tensor>;

std::string adapter_folder(const std::string& name) { return fixture_path("lora/" + name); }

std::string base_of(const std::string& adapter) {
  const Value info = read_json_file(adapter_folder(adapter) + "/adapter_info.json");
  return adapter_folder(adapter) + "/" + info.find("base")->as_string();
}

/// The results of `score` over the adapter's reference batch.
Tensors score(const std::string& model, const std::string& adapter, const std::string& batch,
              const std::vector<std::string>& flags) {
  const TemporaryFolder folder;
  std::vector<std::string> words = {
      "score", "--model", model, "--input", batch, "--output", folder.file("out.safetensors")};
  if (!adapter.empty()) words.insert(words.end(), {"--adapter", adapter});
  words.insert(words.end(), flags.begin(), flags.end());
  const auto result = run_espalier(words);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.exit_code == 0 ? read_tensors(folder.file("out.safetensors")) : Tensors();
}

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

void copy_adapter(const std::string& name, const std::string& target) {
  fs::create_directories(target);
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
    fs::copy(adapter_folder(name) + "/" + file, target + "/" + file);
}

class AdapterParity : public ::testing::TestWithParam<const char*> {};

TEST_P(AdapterParity, LogitsGradientsAndMergedWeightsAreThoseOfPeft) {
  const std::string name = GetParam();
  const std::string reference = adapter_folder(name) + "/expected.safetensors";
  const auto result = run_espalier({"parity", "--model", base_of(name), "--adapter",
                                    adapter_folder(name), "--expected", reference, "--json"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 1) << result.err;
  std::vector<std::string> compared;
  const Value document = parse_json(result.out);
  for (const Value& row : document.find("rows")->as_array()) {
    EXPECT_TRUE(row.find("ok")->as_bool()) << dump_json(row);
    compared.push_back(row.find("name")->as_string());
  }
  const SafetensorsFile file(reference);
  for (const TensorInfo& tensor : file.tensors()) {
    const bool input =
        tensor.name == "input_ids" || tensor.name == "labels" || tensor.name == "num_label_tokens";
    EXPECT_TRUE(input || std::find(compared.begin(), compared.end(), tensor.name) != compared.end())
        << tensor.name << " was not compared";
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, AdapterParity,
                         ::testing::Values("gpt2_conv1d", "llama_all_linear", "llama_dora",
                                           "llama_embed", "llama_lm_head", "llama_patterns",
                                           "llama_qv", "llama_regex", "llama_rslora",
                                           "qwen2_bias_all", "qwen2_bias_lora_only"),
                         [](const auto& info) { return std::string(info.param); });

TEST(AdapterCommands, ScoreWritesTheGradientOfEveryTensorOfTheAdapterAndOfNoOther) {
  const std::string folder = adapter_folder("qwen2_bias_all");
  const Tensors results =
      score(base_of("qwen2_bias_all"), folder, folder + "/expected.safetensors", {"--gradients"});
  std::size_t gradients = 0;
  for (const auto& [name, tensor] : results) gradients += name.starts_with("grad.") ? 1 : 0;
  const Tensors adapter = read_tensors(folder + "/adapter_model.safetensors");
  EXPECT_EQ(gradients, adapter.size());
  for (const auto& [name, tensor] : adapter) EXPECT_TRUE(results.contains("grad." + name)) << name;
}

TEST(AdapterCommands, AMergedModelNeedsNoAdapterAndUnmergingGivesTheBaseBack) {
  const TemporaryFolder folder;
  for (const char* name : {"gpt2_conv1d", "llama_patterns", "llama_embed"}) {
    const std::string adapter = adapter_folder(name);
    const std::string merged = folder.file(std::string(name) + "-merged");
    const std::string unmerged = folder.file(std::string(name) + "-unmerged");
    ASSERT_EQ(run_espalier({"adapter", "merge", "--model", base_of(name), "--adapter", adapter,
                            "--output", merged})
                  .exit_code,
              0);
    const std::string batch = adapter + "/expected.safetensors";
    const at::Tensor expected = read_tensors(batch).at("merged_logits");
    const at::Tensor logits = score(merged, "", batch, {"--logits"}).at("logits");
    EXPECT_LE(largest(logits - expected), 1e-5 * largest(expected)) << name;

    const auto undo = run_espalier(
        {"adapter", "unmerge", "--model", merged, "--adapter", adapter, "--output", unmerged});
    ASSERT_EQ(undo.exit_code, 0) << undo.err;
    Tensors base = read_tensors(base_of(name) + "/model.safetensors");
    for (const auto& [weight, value] : read_tensors(unmerged + "/model.safetensors"))
      EXPECT_LE(largest(value - base.at(weight)), 1e-6 * largest(base.at(weight))) << weight;
  }
}

TEST(AdapterCommands, AnExtractedAdapterIsTheOneThatWasMerged) {
  const TemporaryFolder folder;
  const std::string name = "gpt2_conv1d";
  const std::string batch = adapter_folder(name) + "/expected.safetensors";
  ASSERT_EQ(run_espalier({"adapter", "merge", "--model", base_of(name), "--adapter",
                          adapter_folder(name), "--output", folder.file("merged")})
                .exit_code,
            0);
  const auto extract =
      run_espalier({"adapter", "extract", "--base", base_of(name), "--model", folder.file("merged"),
                    "--rank", "8", "--output", folder.file("extracted")});
  ASSERT_EQ(extract.exit_code, 0) << extract.err;
  EXPECT_NE(extract.out.find("0.00 %"), std::string::npos) << extract.out;
  const at::Tensor expected = read_tensors(batch).at("logits");
  const at::Tensor logits =
      score(base_of(name), folder.file("extracted"), batch, {"--logits"}).at("logits");
  EXPECT_LE(largest(logits - expected), 1e-4 * largest(expected));
}

TEST(AdapterCommands, InspectSaysWhatIsInTheFolder) {
  const auto result =
      run_espalier({"adapter", "inspect", "--adapter", adapter_folder("llama_qv"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Value document = parse_json(result.out);
  EXPECT_EQ(document.find("tensors")->as_int(), 8);
  EXPECT_EQ(document.find("parameters")->as_int(), 1792);
  EXPECT_EQ(document.find_path("config.r")->as_int(), 8);
}

TEST(AdapterCommands, GenerationWithAnAdapterIsThatOfTheMergedModel) {
  const TemporaryFolder folder;
  const std::string name = "llama_dora";
  ASSERT_EQ(run_espalier({"adapter", "merge", "--model", base_of(name), "--adapter",
                          adapter_folder(name), "--output", folder.file("merged")})
                .exit_code,
            0);
  const auto generate = [&](std::vector<std::string> model) {
    std::vector<std::string> words = {"generate",         "--prompt-ids", "5,9,17", "--ignore-eos",
                                      "--max-new-tokens", "12",           "--json"};
    words.insert(words.end(), model.begin(), model.end());
    const auto result = run_espalier(words);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const std::string beside =
      generate({"--model", base_of(name), "--adapter", adapter_folder(name)});
  EXPECT_EQ(beside, generate({"--model", folder.file("merged")}));
  EXPECT_NE(beside, generate({"--model", base_of(name)}));
}

/// Runs a recipe over the data of lora_adamw with a [peft] section and further lines.
testing::ProcessResult train(const TemporaryFolder& folder, const std::string& output,
                             const std::string& peft, const std::vector<std::string>& flags = {}) {
  const std::string recipe =
      "output_dir = \"" + folder.file(output) + "\"\n[model]\npath = \"" +
      fixture_path("models/llama") + "\"\n[dataset]\ntype = \"pretokenized\"\npath = \"" +
      fixture_path("training/lora_adamw/data.safetensors") +
      "\"\n[step_scheduler]\nglobal_batch_size = 2\nlocal_batch_size = 1\nmax_steps = 6\n"
      "ckpt_every_steps = 3\n[checkpoint]\nmax_recent_checkpoints = 5\n[peft]\n" +
      peft;
  std::vector<std::string> words = {"train", folder.write(output + ".toml", recipe), "--quiet"};
  words.insert(words.end(), flags.begin(), flags.end());
  return run_espalier(words);
}

// --- what is refused ---

void expect_refusal(const std::string& model, const std::string& adapter,
                    const std::vector<std::string>& texts, int exit_code = 2) {
  const auto result = run_espalier({"score", "--model", model, "--adapter", adapter, "--input",
                                    adapter_folder("llama_qv") + "/expected.safetensors",
                                    "--output", "/dev/null", "--logits"});
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  for (const std::string& text : texts)
    EXPECT_NE(result.err.find(text), std::string::npos) << text << "\nin\n" << result.err;
}

/// A copy of llama_qv with its tensors or its config changed.
template <class Change>
void expect_refusal_of_changed_tensors(const Change& change,
                                       const std::vector<std::string>& texts) {
  const TemporaryFolder folder;
  copy_adapter("llama_qv", folder.file("adapter"));
  const std::string file = folder.file("adapter/adapter_model.safetensors");
  Tensors tensors = read_tensors(file);
  change(tensors);
  write_tensors(file, tensors);
  expect_refusal(base_of("llama_qv"), folder.file("adapter"), texts);
}

void expect_refusal_of_changed_config(const char* key, const Value& value,
                                      const std::vector<std::string>& texts, int exit_code = 2) {
  const TemporaryFolder folder;
  copy_adapter("llama_qv", folder.file("adapter"));
  const std::string file = folder.file("adapter/adapter_config.json");
  Value config = read_json_file(file);
  config.as_table().set(key, value);
  write_file_atomically(file, dump_json(config));
  expect_refusal(base_of("llama_qv"), folder.file("adapter"), texts, exit_code);
}

constexpr const char* kTensor = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight";

TEST(BadAdapters, AMissingTensorIsNamed) {
  expect_refusal_of_changed_tensors([](Tensors& tensors) { tensors.erase(kTensor); },
                                    {"1 tensor(s) are missing from the adapter", kTensor});
}

TEST(BadAdapters, ATensorTooManyIsNamed) {
  expect_refusal_of_changed_tensors(
      [](Tensors& tensors) { tensors.emplace("base_model.model.other", tensors.at(kTensor)); },
      {"belong to no part of it", "base_model.model.other"});
}

TEST(BadAdapters, ANanInAWeightIsNamed) {
  expect_refusal_of_changed_tensors(
      [](Tensors& tensors) { tensors.at(kTensor)[3][1] = std::numeric_limits<float>::quiet_NaN(); },
      {kTensor, "not finite"});
}

TEST(BadAdapters, AnAdapterOfAnotherBaseIsRefusedWithShapes) {
  // Same module names, other sizes.
  const TemporaryFolder folder;
  copy_adapter("llama_all_linear", folder.file("adapter"));
  expect_refusal(fixture_path("models/llama_tied"), folder.file("adapter"),
                 {"has another shape than the model and the config say", "another base model"});
  expect_refusal(fixture_path("models/gpt2"), folder.file("adapter"),
                 {"no module of the model is chosen for the adapter"});
}

TEST(BadAdapters, ARankLargerThanTheLayerIsRefused) {
  expect_refusal_of_changed_config("r", 17, {"rank is larger than the layer", "at most 16"});
}

TEST(BadAdapters, OptionsThatChangeTheArithmeticAreNotIgnored) {
  expect_refusal_of_changed_config("lora_bias", true, {"'lora_bias', which is not supported"}, 4);
}

TEST(BadAdapters, AnUnknownKindNamesWhatIsThere) {
  expect_refusal_of_changed_config("peft_type", "OTHER",
                                   {"no plugin reads this kind of adapter", "OTHER", "LORA"}, 4);
}

TEST(BadAdapters, AFolderWithoutAdapterSaysWhatIsExpected) {
  expect_refusal(base_of("llama_qv"), fixture_path("models/llama"),
                 {"there is no adapter in", "adapter_config.json"});
}

TEST(BadAdapters, WhatMergingLostCanNotBeUnmerged) {
  const TemporaryFolder folder;
  const auto result =
      run_espalier({"adapter", "unmerge", "--model", base_of("llama_dora"), "--adapter",
                    adapter_folder("llama_dora"), "--output", folder.file("out")});
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_NE(result.err.find("can't be undone"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder.file("out")));
}

TEST(BadAdapters, AWeightThatIsTiedIsNotMergedInto) {
  const TemporaryFolder folder;
  const std::string tied = fixture_path("models/llama_tied");
  const auto training = train(folder, "run", "type = \"lora\"\ntarget_modules = \"embed_tokens\"\n",
                              {"--model.path=" + tied});
  ASSERT_EQ(training.exit_code, 0) << training.err;
  const auto result = run_espalier({"adapter", "merge", "--model", tied, "--adapter",
                                    folder.file("run/final"), "--output", folder.file("out")});
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_NE(result.err.find("is tied with 'lm_head'"), std::string::npos) << result.err;
}

TEST(BadAdapters, AnOutputThatIsAnInputIsRefused) {
  const auto result = run_espalier({"adapter", "merge", "--model", base_of("llama_qv"), "--adapter",
                                    adapter_folder("llama_qv"), "--output", base_of("llama_qv")});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_TRUE(fs::exists(base_of("llama_qv") + "/expected.safetensors"));
}

// --- recipes ---

TEST(AdapterTraining, ResumesToTheSameBitsWithDropoutAndKeepsTheAdaptersStateAlone) {
  const TemporaryFolder folder;
  const std::string peft =
      "type = \"lora\"\ntarget_modules = [\"q_proj\", \"down_proj\"]\ndropout = 0.3\n"
      "dropout_position = \"pre\"\nuse_dora = true\nmodules_to_save = [\"norm\"]\n";
  const auto whole = train(folder, "whole", peft);
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::string checkpoint = folder.file("whole/checkpoints/step-00000003");
  const auto resumed = train(folder, "resumed", peft, {"--resume", checkpoint});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const std::string file = "/final/adapter_model.safetensors";
  EXPECT_EQ(read_file(folder.file("whole") + file), read_file(folder.file("resumed") + file));
  const Tensors adapter = read_tensors(folder.file("whole") + file);
  const Tensors saved = read_tensors(checkpoint + "/model.safetensors");
  ASSERT_EQ(saved.size(), adapter.size()) << "nothing of the frozen base is in the checkpoint";
  for (const auto& [name, tensor] : saved) EXPECT_TRUE(adapter.contains(name)) << name;
}

TEST(AdapterTraining, DropoutChangesWhatIsLearntAndTheSeedChangesDropout) {
  const TemporaryFolder folder;
  const std::string peft = "type = \"lora\"\ntarget_modules = \"q_proj\"\n";
  ASSERT_EQ(train(folder, "plain", peft).exit_code, 0);
  ASSERT_EQ(train(folder, "post", peft + "dropout = 0.5\n").exit_code, 0);
  ASSERT_EQ(train(folder, "pre", peft + "dropout = 0.5\ndropout_position = \"pre\"\n").exit_code,
            0);
  const auto weights = [&](const char* run) {
    return read_file(folder.file(std::string(run) + "/final/adapter_model.safetensors"));
  };
  EXPECT_NE(weights("plain"), weights("post"));
  EXPECT_NE(weights("post"), weights("pre"));
}

TEST(AdapterTraining, UnknownPatternsEndInAnErrorWithTheNearestNames) {
  const TemporaryFolder folder;
  const auto result = train(folder, "run",
                            "type = \"lora\"\ntarget_modules = [\"q_porj\", \"v_proj\"]\n"
                            "exclude_modules = [\"model.layers.7.*\"]\n");
  EXPECT_EQ(result.exit_code, 2);
  for (const char* text : {"q_porj", "did you mean 'q_proj'", "model.layers.7.*"})
    EXPECT_NE(result.err.find(text), std::string::npos) << text << "\nin\n" << result.err;
}

TEST(AdapterTraining, OtherMistakesOfTheSectionAreSaid) {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"target_modules = [\"q_proj\"]\nrank_pattern = {v_proj = 4}\n",
       "matches none of the adapted modules"},
      {"modules_to_save = [\"lm_haed\"]\n", "did you mean 'lm_head'"},
      {"dim = 33\n", "the rank is larger than the layer"},
      {"dim = 4\nr = 8\n", "two names of one setting"},
      {"match_all_linear = true\ntarget_modules = [\"q_proj\"]\n", "exclude each other"},
      {"target_modules = [\"(q_proj\"]\n", "is no regular expression"},
      {"path = \"/nowhere\"\n", "there is no adapter in '/nowhere'"},
  };
  for (const auto& [lines, text] : cases) {
    const auto result = train(folder, "run", "type = \"lora\"\n" + lines);
    EXPECT_EQ(result.exit_code, 2) << lines;
    EXPECT_NE(result.err.find(text), std::string::npos) << lines << result.err;
  }
}

}  // namespace
}  // namespace espalier
