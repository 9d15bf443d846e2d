// Adapters of other kinds than LoRA (IA3, prompt tuning, prefix tuning), held against PEFT's own
// numbers, and several adapters beside one model.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <sstream>

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

std::string adapter_folder(const std::string& name) { return fixture_path("peft/" + name); }

std::string base_of(const std::string& adapter) {
  const Value info = read_json_file(adapter_folder(adapter) + "/adapter_info.json");
  return adapter_folder(adapter) + "/" + info.find("base")->as_string();
}

Tensors expected_of(const std::string& adapter) {
  return read_tensors(adapter_folder(adapter) + "/expected.safetensors");
}

std::vector<std::int64_t> to_list(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.flatten().contiguous();
  const auto* data = flat.const_data_ptr<std::int64_t>();
  return {data, data + flat.numel()};
}

std::string joined(const std::vector<std::int64_t>& ids) {
  std::string text;
  for (const std::int64_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

std::vector<std::int64_t> ids_of(const Value& answer) {
  std::vector<std::int64_t> ids;
  for (const Value& id : answer.find("ids")->as_array()) ids.push_back(id.as_int());
  return ids;
}

/// The first six tokens of the reference batch.
std::vector<std::int64_t> prompt_of(const std::string& adapter) {
  return to_list(expected_of(adapter).at("input_ids")[0].narrow(0, 0, 6));
}

/// What the program writes after a prompt of ids; `words` say with which adapter.
std::vector<std::int64_t> generated(const std::string& model, std::vector<std::string> words,
                                    const std::vector<std::int64_t>& prompt) {
  std::vector<std::string> all = {"generate",         "--model",      model,
                                  "--prompt-ids",     joined(prompt), "--json",
                                  "--max-new-tokens", "12",           "--ignore-eos"};
  all.insert(all.end(), words.begin(), words.end());
  const auto result = run_espalier(all);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.exit_code == 0 ? ids_of(parse_json(result.out)) : std::vector<std::int64_t>();
}

/// The lines that `generate --prompts` gives back.
std::vector<Value> answered(const std::vector<std::string>& words) {
  const auto result = run_espalier(words);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::vector<Value> lines;
  std::istringstream stream(result.out);
  for (std::string line; std::getline(stream, line);) lines.push_back(parse_json(line));
  return lines;
}

class PeftKinds : public ::testing::TestWithParam<const char*> {};

TEST_P(PeftKinds, LogitsLossAndGradientsAreThoseOfPeft) {
  const std::string name = GetParam();
  const auto result =
      run_espalier({"parity", "--model", base_of(name), "--adapter", adapter_folder(name),
                    "--expected", adapter_folder(name) + "/expected.safetensors", "--json"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 1) << result.err;
  const Value document = parse_json(result.out);
  std::size_t gradients = 0;
  for (const Value& row : document.find("rows")->as_array()) {
    EXPECT_TRUE(row.find("ok")->as_bool()) << dump_json(row);
    gradients += row.find("name")->as_string().starts_with("grad.") ? 1 : 0;
  }
  EXPECT_EQ(gradients, read_tensors(adapter_folder(name) + "/adapter_model.safetensors").size());
}

TEST_P(PeftKinds, GreedyAnswersWithACacheAreThoseOfThePlainForwardPass) {
  const std::string name = GetParam();
  EXPECT_EQ(generated(base_of(name), {"--adapter", adapter_folder(name)}, prompt_of(name)),
            to_list(expected_of(name).at("generated")));
}

TEST_P(PeftKinds, TextsSideBySideAreAnsweredAsAlone) {
  const std::string name = GetParam();
  const TemporaryFolder folder;
  const std::vector<std::int64_t> prompt = prompt_of(name);
  std::string lines;
  std::vector<std::vector<std::int64_t>> prompts;
  for (const std::size_t length : {6U, 2U, 4U}) {
    prompts.emplace_back(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(length));
    lines += "{\"prompt_ids\": [" + joined(prompts.back()) + "]}\n";
  }
  const std::vector<Value> answers = answered(
      {"generate", "--model", base_of(name), "--adapter", adapter_folder(name), "--prompts",
       folder.write("prompts.jsonl", lines), "--max-new-tokens", "12", "--ignore-eos"});
  ASSERT_EQ(answers.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i)
    EXPECT_EQ(ids_of(answers[i].find("answers")->as_array()[0]),
              generated(base_of(name), {"--adapter", adapter_folder(name)}, prompts[i]));
}

/// Six rows of tokens that every tiny model knows, beside the run's folder.
std::string data_file(const std::string& output) {
  const at::Tensor ids = at::arange(48, at::TensorOptions().dtype(at::kLong)).view({3, 2, 8}) + 4;
  std::string path = output + "-data.safetensors";
  write_tensors(path, {{"input_ids", ids}, {"labels", ids.clone()}});
  return path;
}

std::string recipe(const std::string& base, const std::string& peft, const std::string& output,
                   const std::string& more = {}) {
  return "output_dir = \"" + output + "\"\n[model]\npath = \"" + base + "\"\n[peft]\n" + peft +
         "\n[dataset]\ntype = \"pretokenized\"\npath = \"" + data_file(output) +
         "\"\n[step_scheduler]\nglobal_batch_size = 2\nlocal_batch_size = 1\n" + more;
}

TEST_P(PeftKinds, FilesComeOutAsTheyCameIn) {
  const std::string name = GetParam();
  const TemporaryFolder folder;
  const Value config = read_json_file(adapter_folder(name) + "/adapter_config.json");
  const std::string kind = config.find("peft_type")->as_string();
  const std::string type = kind == "IA3"             ? "ia3"
                           : kind == "PROMPT_TUNING" ? "prompt_tuning"
                                                     : "prefix_tuning";
  const std::string text =
      recipe(base_of(name), "type = \"" + type + "\"\npath = \"" + adapter_folder(name) + "\"",
             folder.file("run"), "max_steps = 1\n[optimizer]\ntype = \"sgd\"\nlr = 0.0\n");
  const auto result = run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Tensors given = read_tensors(adapter_folder(name) + "/adapter_model.safetensors");
  const Tensors written = read_tensors(folder.file("run/final/adapter_model.safetensors"));
  ASSERT_EQ(written.size(), given.size());
  for (const auto& [tensor, value] : given) EXPECT_TRUE(written.at(tensor).equal(value)) << tensor;
  const Value again = read_json_file(folder.file("run/final/adapter_config.json"));
  for (const auto& [key, value] : config.as_table()) {
    // Of PEFT itself, of the place, and of how values were drawn.
    if (key == "peft_version" || key == "base_model_name_or_path" || key == "encoder_hidden_size")
      continue;
    const Value* found = again.find(key);
    ASSERT_NE(found, nullptr) << key;
    if (key == "target_modules" || key == "feedforward_modules") {
      EXPECT_EQ(found->is_array(), value.is_array()) << key;  // lists are sets to PEFT
      continue;
    }
    EXPECT_EQ(*found, value) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, PeftKinds,
                         ::testing::Values("ia3_gpt2", "ia3_llama", "ia3_qwen2", "prefix_gpt2",
                                           "prefix_llama", "prefix_mistral", "prefix_qwen2",
                                           "prompt_gemma2", "prompt_gpt2", "prompt_llama"),
                         [](const auto& info) { return std::string(info.param); });

// --- LoRA on experts, as PEFT's target_parameters ---

class LoraExperts : public ::testing::TestWithParam<const char*> {};

TEST_P(LoraExperts, LogitsGradientsAndMergedModelAreThoseOfPeft) {
  const std::string name = GetParam();
  const auto result =
      run_espalier({"parity", "--model", base_of(name), "--adapter", adapter_folder(name),
                    "--expected", adapter_folder(name) + "/expected.safetensors", "--json"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 1) << result.err;
  const Value document = parse_json(result.out);
  std::set<std::string> compared;
  for (const Value& row : document.find("rows")->as_array()) {
    EXPECT_TRUE(row.find("ok")->as_bool()) << dump_json(row);
    compared.insert(row.find("name")->as_string());
  }
  for (const auto& [tensor, value] :
       read_tensors(adapter_folder(name) + "/adapter_model.safetensors"))
    EXPECT_TRUE(compared.contains("grad." + tensor)) << tensor;
  for (const char* wanted : {"logits", "loss", "base_logits", "merged_logits"})
    EXPECT_TRUE(compared.contains(wanted)) << wanted;
}

TEST_P(LoraExperts, FilesComeOutAsTheyCameIn) {
  const std::string name = GetParam();
  const TemporaryFolder folder;
  const std::string text =
      recipe(base_of(name), "type = \"lora\"\npath = \"" + adapter_folder(name) + "\"",
             folder.file("run"), "max_steps = 1\n[optimizer]\ntype = \"sgd\"\nlr = 0.0\n");
  const auto result = run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Tensors given = read_tensors(adapter_folder(name) + "/adapter_model.safetensors");
  const Tensors written = read_tensors(folder.file("run/final/adapter_model.safetensors"));
  ASSERT_EQ(written.size(), given.size());
  for (const auto& [tensor, value] : given) EXPECT_TRUE(written.at(tensor).equal(value)) << tensor;
  const Value before = read_json_file(adapter_folder(name) + "/adapter_config.json");
  const Value after = read_json_file(folder.file("run/final/adapter_config.json"));
  EXPECT_TRUE(after.find("target_modules")->is_array()) << "PEFT would choose modules by itself";
  EXPECT_EQ(after.find("target_parameters")->as_array().size(),
            before.find("target_parameters")->as_array().size());
}

INSTANTIATE_TEST_SUITE_P(Fixtures, LoraExperts,
                         ::testing::Values("lora_experts_gpt_oss", "lora_experts_mixtral",
                                           "lora_experts_qwen3_moe"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LoraExpertsTraining, ExpertsAloneAreAdaptedAndWhatDoesNotGoWithThemIsSaid) {
  const TemporaryFolder folder;
  const auto train = [&](const std::string& base, const std::string& peft) {
    const std::string text = recipe(fixture_path(base), "type = \"lora\"\n" + peft,
                                    folder.file("run"), "max_steps = 2\n");
    return run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
  };
  const auto trained =
      train("models/mixtral", "dim = 2\ntarget_parameters = [\"experts.down_proj\"]");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  for (const auto& [name, value] : read_tensors(folder.file("run/final/adapter_model.safetensors")))
    EXPECT_NE(name.find(".mlp.experts.lora_"), std::string::npos) << name;
  const auto message = [&](const std::string& base, const std::string& peft) {
    const auto result = train(base, peft);
    EXPECT_NE(result.exit_code, 0);
    return result.err;
  };
  EXPECT_NE(
      message("models/mixtral", "target_parameters = [\"experts.dwn_proj\"]").find("down_proj"),
      std::string::npos);
  EXPECT_NE(message("models/llama", "target_parameters = [\"experts.down_proj\"]")
                .find("the model has no experts"),
            std::string::npos);
  EXPECT_NE(
      message("models/mixtral", "use_dora = true\ntarget_parameters = [\"experts.down_proj\"]")
          .find("not for experts"),
      std::string::npos);
}

// --- training ---

TEST(PeftKindsTraining, ARunThatWasStoppedEndsInTheSameBits) {
  const TemporaryFolder folder;
  for (const char* peft :
       {"type = \"ia3\"\ntarget_modules = [\"k_proj\", \"v_proj\", \"down_proj\"]\n"
        "feedforward_modules = [\"down_proj\"]",
        "type = \"prompt_tuning\"\nnum_virtual_tokens = 3\nprompt_tuning_init = \"sample_vocab\"",
        "type = \"prefix_tuning\"\nnum_virtual_tokens = 3"}) {
    fs::remove_all(folder.file("whole"));
    fs::remove_all(folder.file("parts"));
    const auto train = [&](const std::string& run, int steps) {
      const std::string text =
          recipe(fixture_path("models/llama"), peft, folder.file(run),
                 "max_steps = " + std::to_string(steps) +
                     "\n[optimizer]\ntype = \"adamw\"\nlr = 0.05\n[lr_scheduler]\ntype = "
                     "\"constant\"\n");
      const auto result = run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
      ASSERT_EQ(result.exit_code, 0) << result.err;
    };
    train("whole", 6);
    train("parts", 3);
    train("parts", 6);
    const Tensors whole = read_tensors(folder.file("whole/final/adapter_model.safetensors"));
    const Tensors parts = read_tensors(folder.file("parts/final/adapter_model.safetensors"));
    for (const auto& [name, value] : whole) EXPECT_TRUE(parts.at(name).equal(value)) << name;
    const std::string log = read_file(folder.file("whole/training.jsonl"));
    EXPECT_NE(log.find("\"step\": 6"), std::string::npos) << log;
  }
}

TEST(PeftKindsTraining, WhatDoesNotFitIsSaid) {
  const TemporaryFolder folder;
  struct Case {
    const char* peft;
    const char* message;
  };
  for (const auto& [peft, message] :
       {Case{"type = \"ia3\"\ntarget_modules = [\"k_prj\"]", "k_proj"},
        Case{"type = \"ia3\"\ntarget_modules = [\"k_proj\"]\nfeedforward_modules = [\"up_proj\"]",
             "no feedforward module is one of the adapted modules"},
        Case{"type = \"ia3\"\ntarget_modules = [\"embed_tokens\"]", "an embedding can't be scaled"},
        Case{"type = \"prompt_tuning\"\nprompt_tuning_init = \"token_ids\"", "do not go together"},
        Case{"type = \"prompt_tuning\"\nprompt_tuning_init = \"token_ids\"\ninit_token_ids = "
             "[100000]",
             "an id is outside the vocabulary"}}) {
    const std::string text =
        recipe(fixture_path("models/llama"), peft, folder.file("run"), "max_steps = 1\n");
    const auto result = run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
  }
}

TEST(PeftKindsTraining, AnAdapterOfAnotherBaseIsRefused) {
  const auto result = run_espalier({"generate", "--model", fixture_path("models/gpt2"), "--adapter",
                                    adapter_folder("prefix_llama"), "--prompt-ids", "5,6"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("another base model"), std::string::npos) << result.err;
}

TEST(PeftKindsTraining, WhatStandsBeforeATextCannotBeMerged) {
  const TemporaryFolder folder;
  const auto result =
      run_espalier({"adapter", "merge", "--model", base_of("prompt_llama"), "--adapter",
                    adapter_folder("prompt_llama"), "--output", folder.file("merged")});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.err.find("no place in a model's weights"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder.file("merged")));
}

// --- several adapters beside one model ---

TEST(SeveralAdapters, EachLineIsAnsweredWithTheOneThatItNames) {
  const TemporaryFolder folder;
  const std::string model = fixture_path("models/llama");
  const std::map<std::string, std::string> folders = {{"qv", fixture_path("lora/llama_qv")},
                                                      {"dora", fixture_path("lora/llama_dora")},
                                                      {"ia3", adapter_folder("ia3_llama")},
                                                      {"prefix", adapter_folder("prefix_llama")},
                                                      {"prompt", adapter_folder("prompt_llama")}};
  const std::vector<std::int64_t> prompt = prompt_of("prompt_llama");
  std::vector<std::string> words = {"generate", "--model", model};
  for (const auto& [name, path] : folders)
    words.insert(words.end(), {"--adapter", name + "=" + path});
  std::string lines;
  const std::vector<std::string> order = {"qv",  "qv", "",       "prefix", "dora",
                                          "ia3", "",   "prompt", "qv"};
  for (const std::string& name : order) {
    lines += "{\"prompt_ids\": [" + joined(prompt) + "]" +
             (name.empty() ? "" : ", \"adapter\": \"" + name + "\"") + "}\n";
  }
  words.insert(words.end(), {"--prompts", folder.write("prompts.jsonl", lines), "--max-new-tokens",
                             "12", "--ignore-eos"});
  const std::vector<Value> answers = answered(words);
  ASSERT_EQ(answers.size(), order.size());
  std::set<std::vector<std::int64_t>> different;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::vector<std::string> alone =
        order[i].empty() ? std::vector<std::string>()
                         : std::vector<std::string>{"--adapter", folders.at(order[i])};
    const auto ids = ids_of(answers[i].find("answers")->as_array()[0]);
    EXPECT_EQ(ids, generated(model, alone, prompt)) << order[i];
    different.insert(ids);
  }
  EXPECT_GE(different.size(), 5U);
}

TEST(SeveralAdapters, NamesThatAreNotThereAreSaid) {
  const TemporaryFolder folder;
  const std::string one = "a=" + fixture_path("lora/llama_qv");
  const std::string model = fixture_path("models/llama");
  const auto refusal = [&](const std::vector<std::string>& adapters, const std::string& line) {
    std::vector<std::string> words = {"generate", "--model", model, "--prompts",
                                      folder.write("prompts.jsonl", line + "\n")};
    for (const std::string& adapter : adapters) words.insert(words.end(), {"--adapter", adapter});
    const auto result = run_espalier(words);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_NE(refusal({one}, R"({"prompt_ids": [5], "adapter": "b"})")
                .find("there is no adapter of this name"),
            std::string::npos);
  EXPECT_NE(refusal({one, one}, R"({"prompt_ids": [5]})").find("two adapters have one name"),
            std::string::npos);
  EXPECT_NE(refusal({one, fixture_path("lora/llama_dora")}, R"({"prompt_ids": [5]})")
                .find("several adapters need names"),
            std::string::npos);
  EXPECT_NE(refusal({}, R"({"prompt_ids": [5], "adapter": "b"})")
                .find("a line of the prompts chooses an adapter"),
            std::string::npos);
}

// --- int8 weights under an adapter ---

TEST(Quantization, AnAdapterTrainsBesideInt8Weights) {
  const TemporaryFolder folder;
  const auto train = [&](const std::string& run, const std::string& more) {
    const std::string text = recipe(fixture_path("models/llama"), "type = \"lora\"",
                                    folder.file(run), "max_steps = 4\n" + more);
    return run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
  };
  const auto dense = train("dense", "");
  ASSERT_EQ(dense.exit_code, 0) << dense.err;
  const auto int8 = train("int8", "[quantization]\ntype = \"int8\"\n");
  ASSERT_EQ(int8.exit_code, 0) << int8.err;
  const auto loss = [&](const std::string& run) {
    const std::string log = read_file(folder.file(run + "/training.jsonl"));
    return parse_json(log.substr(0, log.find('\n'))).find("loss")->as_float();
  };
  EXPECT_NEAR(loss("int8"), loss("dense"), 0.02 * loss("dense"));
  EXPECT_NE(loss("int8"), loss("dense"));
  EXPECT_TRUE(fs::exists(folder.file("int8/final/adapter_model.safetensors")));
}

TEST(Quantization, WithoutAnAdapterItIsRefused) {
  const TemporaryFolder folder;
  std::string text = recipe(fixture_path("models/llama"), "type = \"lora\"", folder.file("run"),
                            "max_steps = 1\n[quantization]\ntype = \"int8\"\n");
  text.erase(text.find("[peft]"), std::string("[peft]\ntype = \"lora\"\n").size());
  const auto result = run_espalier({"train", folder.write("recipe.toml", text), "--quiet"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.err.find("quantised weights can't be trained"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace espalier
