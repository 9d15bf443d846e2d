#include "formats/gguf_export.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <numeric>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/file.h"
#include "espalier/base/gguf.h"
#include "espalier/base/gguf_dequantize.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "fixture_path.h"
#include "formats/gguf_import.h"
#include "temporary_folder.h"

namespace espalier::formats {
namespace {

namespace fs = std::filesystem;
using espalier::testing::fixture_path;
using espalier::testing::TemporaryFolder;

std::vector<float> values_of(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
  std::vector<float> values(static_cast<std::size_t>(tensor->element_count()));
  dequantize(tensor->type, file.data(*tensor), values);
  return values;
}

std::vector<float> values_of(const CheckpointReader& checkpoint, const std::string& name) {
  const auto data = checkpoint.data(name);
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), data.size());
  return values;
}

/// A folder with a config and float32 tensors whose elements count from 0.
class ModelFolder {
 public:
  explicit ModelFolder(const Table& config) {
    write_file_atomically(folder_ / "config.json", dump_json(config));
  }

  ModelFolder& tensor(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const std::int64_t size : shape) elements *= size;
    values_.emplace_back(static_cast<std::size_t>(elements));
    std::iota(values_.back().begin(), values_.back().end(), 0.F);
    sources_.push_back({.name = name, .shape = std::move(shape)});
    return *this;
  }

  std::string path() {
    for (std::size_t i = 0; i < sources_.size(); ++i)
      sources_[i].data = std::as_bytes(std::span<const float>(values_[i]));
    write_safetensors(folder_ / "model.safetensors", sources_);
    return folder_.path();
  }

  std::string operator/(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
  std::vector<std::vector<float>> values_;
  std::vector<TensorSource> sources_;
};

Table small_config(const std::string& architecture) {
  Table config;
  config.set("architectures", Array{architecture});
  config.set("hidden_size", 4);
  config.set("intermediate_size", 8);
  config.set("num_hidden_layers", 1);
  config.set("num_attention_heads", 2);
  config.set("max_position_embeddings", 16);
  config.set("rms_norm_eps", 1e-5);
  config.set("layer_norm_eps", 1e-5);
  return config;
}

std::string problem_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string export_problem(const std::string& folder) {
  const TemporaryFolder out;
  std::string message = problem_of([&] { export_gguf(folder, out / "x.gguf", {}); });
  EXPECT_FALSE(fs::exists(out / "x.gguf"));
  return message;
}

TEST(GgufExport, WhatIsImportedAgainIsTheSameModel) {
  for (const std::string name : {"llama", "llama_tied", "llama_linear_rope", "llama_yarn"}) {
    SCOPED_TRACE(name);
    const std::string folder = fixture_path("models/" + name);
    const TemporaryFolder out;
    export_gguf(folder, out / "model.gguf", {.type = GgmlType::kF32});
    import_gguf(out / "model.gguf", out / "again", {.dtype = DType::kF32});
    const CheckpointReader before(folder);
    const CheckpointReader after(out / "again");
    ASSERT_EQ(before.names(), after.names());
    for (const std::string& tensor : before.names()) {
      EXPECT_EQ(before.at(tensor).shape, after.at(tensor).shape) << tensor;
      EXPECT_EQ(values_of(before, tensor), values_of(after, tensor)) << tensor;
    }
    const Value first = read_json_file(folder + "/config.json");
    const Value second = read_json_file(out / "again/config.json");
    for (const char* key : {"hidden_size", "num_key_value_heads", "rms_norm_eps", "rope_theta",
                            "tie_word_embeddings", "max_position_embeddings"})
      EXPECT_EQ(dump_json(*first.find(key)), dump_json(*second.find(key))) << key;
  }
}

TEST(GgufExport, TensorsAreThoseOfTheReferenceWriterInEveryType) {
  static constexpr std::pair<const char*, GgmlType> kTypes[] = {{"f32", GgmlType::kF32},
                                                                {"f16", GgmlType::kF16},
                                                                {"bf16", GgmlType::kBF16},
                                                                {"q8_0", GgmlType::kQ8Type0}};
  for (const auto& [name, type] : kTypes) {
    SCOPED_TRACE(name);
    const GgufFile reference(fixture_path("gguf/llama_" + std::string(name) + ".gguf"));
    const TemporaryFolder out;
    // Weights that the type holds exactly, so that writing them again must give the same bytes.
    import_gguf(reference.path(), out / "model", {.dtype = DType::kF32});
    export_gguf(out / "model", out / "again.gguf", {.type = type, .with_tokenizer = false});
    const GgufFile again(out / "again.gguf");
    ASSERT_EQ(again.tensors().size(), reference.tensors().size());
    for (const GgufTensor& tensor : reference.tensors()) {
      const GgufTensor* written = again.find_tensor(tensor.name);
      ASSERT_NE(written, nullptr) << tensor.name;
      EXPECT_EQ(written->type, tensor.type) << tensor.name;
      EXPECT_EQ(written->shape, tensor.shape) << tensor.name;
      const auto expected = reference.data(tensor);
      const auto found = again.data(*written);
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin(), found.end()))
          << tensor.name;
    }
  }
}

TEST(GgufExport, ByteLevelTokenizersComeBackAsTheyWere) {
  const GgufFile reference(fixture_path("gguf/llama_f16.gguf"));
  const TemporaryFolder out;
  import_gguf(reference.path(), out / "model", {});
  export_gguf(out / "model", out / "again.gguf", {});
  const GgufFile again(out / "again.gguf");
  for (const std::string key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"})
    EXPECT_EQ(again.at(key).as_strings(), reference.at(key).as_strings()) << key;
  EXPECT_EQ(again.at("tokenizer.ggml.token_type").as_ints(),
            reference.at("tokenizer.ggml.token_type").as_ints());
  EXPECT_EQ(again.at("tokenizer.ggml.pre").as_string(), "smollm");
  EXPECT_EQ(again.at("tokenizer.ggml.eos_token_id").as_int(),
            reference.at("tokenizer.ggml.eos_token_id").as_int());
}

TEST(GgufExport, SentencePieceTokensMergeInTheOrderOfTheMerges) {
  ModelFolder model(small_config("LlamaForCausalLM"));
  write_file_atomically(model / "tokenizer.json", R"({"added_tokens": [
      {"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "post_processor": {"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
    "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "merges": ["b c", "a b"],
      "vocab": {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "a": 3, "b": 4, "c": 5, "ab": 6, "bc": 7}}})");
  write_file_atomically(model / "tokenizer_config.json",
                        R"({"bos_token": {"content": "<s>"}, "chat_template": "{{ messages }}"})");
  model.tensor("model.embed_tokens.weight", {9, 4});
  const TemporaryFolder out;
  export_gguf(model.path(), out / "x.gguf", {});
  const GgufFile file(out / "x.gguf");
  EXPECT_EQ(file.at("tokenizer.ggml.model").as_string(), "llama");
  EXPECT_EQ(file.at("tokenizer.ggml.token_type").as_ints(),
            (std::vector<std::int64_t>{2, 3, 6, 1, 1, 1, 1, 1, 5}));
  EXPECT_EQ(file.at("tokenizer.ggml.tokens").as_strings().back(), "[PAD8]");
  const std::vector<double> scores = file.at("tokenizer.ggml.scores").as_floats();
  EXPECT_GT(scores[7], scores[6]);
  EXPECT_GT(scores[6], scores[5]);
  EXPECT_TRUE(file.at("tokenizer.ggml.add_bos_token").as_bool());
  EXPECT_FALSE(file.at("tokenizer.ggml.add_eos_token").as_bool());
  EXPECT_TRUE(file.at("tokenizer.ggml.add_space_prefix").as_bool());
  EXPECT_EQ(file.at("tokenizer.ggml.bos_token_id").as_int(), 1);
  EXPECT_EQ(file.at("tokenizer.chat_template").as_string(), "{{ messages }}");
}

TEST(GgufExport, MatricesThatAreStoredTheOtherWayRoundAreTurned) {
  Table config = small_config("GPT2LMHeadModel");
  config.set("n_positions", 16);
  ModelFolder model(config);
  model.tensor("wte.weight", {3, 4}).tensor("h.0.attn.c_attn.weight", {4, 12});
  model.tensor("h.0.attn.bias", {1, 1, 16, 16});
  const TemporaryFolder out;
  export_gguf(model.path(), out / "x.gguf", {.type = GgmlType::kF32});
  const GgufFile file(out / "x.gguf");
  const std::vector<float> turned = values_of(file, "blk.0.attn_qkv.weight");
  EXPECT_EQ(file.find_tensor("blk.0.attn_qkv.weight")->shape, (std::vector<std::int64_t>{12, 4}));
  for (std::size_t row = 0; row < 12; ++row)
    for (std::size_t column = 0; column < 4; ++column)
      EXPECT_EQ(turned[row * 4 + column], static_cast<float>(column * 12 + row));
}

TEST(GgufExport, FusedQueriesKeysAndValuesAreSortedApart) {
  Table config = small_config("GPTNeoXForCausalLM");
  config.set("rotary_pct", 1.0);
  ModelFolder model(config);
  model.tensor("gpt_neox.embed_in.weight", {3, 4});
  model.tensor("gpt_neox.layers.0.attention.query_key_value.bias", {12});
  const TemporaryFolder out;
  export_gguf(model.path(), out / "x.gguf", {});
  // Two heads of two dimensions: q, k, v of the first, then of the second.
  EXPECT_EQ(values_of(GgufFile(out / "x.gguf"), "blk.0.attn_qkv.bias"),
            (std::vector<float>{0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11}));
}

TEST(GgufExport, NormsGetTheOneThatTheModelAdds) {
  ModelFolder model(small_config("GemmaForCausalLM"));
  model.tensor("model.embed_tokens.weight", {3, 4}).tensor("model.norm.weight", {4});
  const TemporaryFolder out;
  export_gguf(model.path(), out / "x.gguf", {});
  EXPECT_EQ(values_of(GgufFile(out / "x.gguf"), "output_norm.weight"),
            (std::vector<float>{1, 2, 3, 4}));
}

TEST(GgufExport, ExpertsAreStackedAndAMissingOneIsNamed) {
  Table config = small_config("MixtralForCausalLM");
  config.set("num_local_experts", 3);
  config.set("num_experts_per_tok", 2);
  const auto build = [&](bool complete) {
    auto model = std::make_unique<ModelFolder>(config);
    model->tensor("model.embed_tokens.weight", {3, 4});
    for (const int expert : {0, 1, 2}) {
      if (!complete && expert == 1) continue;
      model->tensor(
          "model.layers.0.block_sparse_moe.experts." + std::to_string(expert) + ".w1.weight",
          {8, 4});
    }
    return model;
  };
  const auto whole = build(true);
  const TemporaryFolder out;
  export_gguf(whole->path(), out / "x.gguf", {.type = GgmlType::kF32});
  const GgufFile file(out / "x.gguf");
  EXPECT_EQ(file.find_tensor("blk.0.ffn_gate_exps.weight")->shape,
            (std::vector<std::int64_t>{3, 8, 4}));
  EXPECT_EQ(values_of(file, "blk.0.ffn_gate_exps.weight")[33], 1);
  EXPECT_EQ(file.at("llama.expert_count").as_int(), 3);
  EXPECT_NE(export_problem(build(false)->path()).find("an expert of"), std::string::npos);
}

TEST(GgufExport, RotaryDivisorsFollowTheRuleOfTheConfig) {
  const TemporaryFolder out;
  export_gguf(fixture_path("models/llama_rope3"), out / "x.gguf", {});
  const std::vector<float> divisors = values_of(GgufFile(out / "x.gguf"), "rope_freqs.weight");
  // head_dim 8, theta 5e5, original context 32: wavelengths 6.3, 167, 4443 and 118143.
  ASSERT_EQ(divisors.size(), 4U);
  EXPECT_EQ(divisors[0], 1);
  EXPECT_EQ(divisors[1], 8);
  EXPECT_EQ(divisors[3], 8);
}

TEST(GgufExport, RowsThatAreNoWholeBlocksAreWrittenAsF16) {
  ModelFolder model(small_config("LlamaForCausalLM"));
  model.tensor("model.embed_tokens.weight", {3, 4}).tensor("lm_head.weight", {3, 32});
  const TemporaryFolder out;
  export_gguf(model.path(), out / "x.gguf", {.type = GgmlType::kQ8Type0});
  const GgufFile file(out / "x.gguf");
  EXPECT_EQ(file.find_tensor("token_embd.weight")->type, GgmlType::kF16);
  EXPECT_EQ(file.find_tensor("output.weight")->type, GgmlType::kQ8Type0);
  EXPECT_EQ(file.at("general.file_type").as_int(), 7);
}

TEST(GgufExport, AWindowThatTheLayoutLacksLimitsTheContext) {
  const TemporaryFolder out;
  const GgufExportReport report =
      export_gguf(fixture_path("models/mistral"), out / "x.gguf", {.type = GgmlType::kF32});
  ASSERT_EQ(report.warnings.size(), 2U);  // and no tokenizer
  EXPECT_EQ(GgufFile(out / "x.gguf").at("llama.context_length").as_int(), 5);
}

TEST(GgufExport, WhatLlamaCppWouldComputeOtherwiseIsRefused) {
  EXPECT_NE(export_problem(fixture_path("families/falcon")).find("LlamaForCausalLM, Mistral"),
            std::string::npos);
  EXPECT_NE(export_problem(fixture_path("models/llama_dynamic")).find("dynamic"),
            std::string::npos);
  Table config = small_config("LlamaForCausalLM");
  config.set("hidden_act", "gelu");
  ModelFolder model(config);
  model.tensor("model.embed_tokens.weight", {3, 4})
      .tensor("model.layers.0.mlp.surprise.weight", {4});
  const std::string message = export_problem(model.path());
  EXPECT_NE(message.find("another hidden_act"), std::string::npos) << message;
  EXPECT_NE(message.find("'model.layers.0.mlp.surprise.weight' has no place"), std::string::npos);
}

TEST(GgufExport, TokenizersWithoutANameInGgufAreRefusedUnlessLeftOut) {
  for (const std::string name : {"bert_uncased", "t5"}) {
    ModelFolder model(small_config("LlamaForCausalLM"));
    model.tensor("model.embed_tokens.weight", {3, 4});
    fs::copy(fixture_path("tokenizers/" + name + "/tokenizer.json"), model / "tokenizer.json");
    EXPECT_NE(export_problem(model.path()).find("--no-tokenizer"), std::string::npos) << name;
    const TemporaryFolder out;
    export_gguf(model.path(), out / "x.gguf", {.with_tokenizer = false});
    EXPECT_EQ(GgufFile(out / "x.gguf").at("tokenizer.ggml.model").as_string(), "no_vocab");
  }
}

TEST(GgufExport, ATokenizerOfALargerModelIsRefused) {
  ModelFolder model(small_config("LlamaForCausalLM"));
  model.tensor("model.embed_tokens.weight", {3, 4});
  fs::copy(fixture_path("tokenizers/gpt2/tokenizer.json"), model / "tokenizer.json");
  EXPECT_NE(export_problem(model.path()).find("beyond the rows of the embedding"),
            std::string::npos);
}

}  // namespace
}  // namespace espalier::formats
