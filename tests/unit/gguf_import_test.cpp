#include "formats/gguf_import.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/file.h"
#include "espalier/base/half_precision.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors.h"
#include "espalier/base/sha256.h"
#include "fixture_path.h"
#include "gguf_builder.h"
#include "temporary_folder.h"

namespace espalier::formats {
namespace {

namespace fs = std::filesystem;
using espalier::testing::fixture_path;
using espalier::testing::GgufBuilder;
using espalier::testing::TemporaryFolder;

std::vector<float> floats_of(std::span<const std::byte> data) {
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), data.size());
  return values;
}

std::string zeros(std::int64_t elements) {
  return std::string(static_cast<std::size_t>(elements) * sizeof(float), '\0');
}

/// What the small llama below can leave out or change.
struct LlamaChanges {
  std::string architecture = "llama";
  std::string skipped_tensor;
  std::string extra_tensor;
  std::int64_t channels = 4;
  std::int64_t heads = 2;
  bool attention_biases = false;
  std::vector<float> rope_divisors;
  /// Further metadata.
  std::function<void(GgufBuilder&)> metadata;
  std::string pre = "smollm";
  std::vector<std::string> tokens = {"a", "b", "ab", "<s>", "</s>", "<user>", "[PAD6]"};
  std::vector<std::int32_t> types = {1, 1, 1, 3, 3, 4, 5};
  std::vector<std::string> merges = {"a b"};
  std::uint32_t eos = 4;
};

/// Elements of "x" as float32 bytes.
std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// One layer, 7 tokens. Weights are 0; biases count 0, 1, 2, ...
std::string small_llama(const LlamaChanges& changes = {}) {
  GgufBuilder builder;
  builder.text("general.architecture", changes.architecture);
  const auto size = [&](const std::string& key, std::int64_t value) {
    builder.number<std::uint32_t>(changes.architecture + "." + key, GgufType::kU32,
                                  static_cast<std::uint32_t>(value));
  };
  size("block_count", 1);
  size("context_length", 64);
  const std::int64_t channels = changes.channels;
  size("embedding_length", channels);
  size("feed_forward_length", 8);
  size("attention.head_count", changes.heads);
  builder.number<float>(changes.architecture + ".attention.layer_norm_rms_epsilon", GgufType::kF32,
                        1e-6F);
  builder.number<float>(changes.architecture + ".rope.freq_base", GgufType::kF32, 5e5F);
  if (changes.metadata) changes.metadata(builder);
  builder.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", changes.pre);
  builder.texts("tokenizer.ggml.tokens", changes.tokens)
      .numbers("tokenizer.ggml.token_type", GgufType::kI32, changes.types)
      .texts("tokenizer.ggml.merges", changes.merges)
      .number<std::uint32_t>("tokenizer.ggml.bos_token_id", GgufType::kU32, 3)
      .number<std::uint32_t>("tokenizer.ggml.eos_token_id", GgufType::kU32, changes.eos)
      .number<std::uint8_t>("tokenizer.ggml.add_bos_token", GgufType::kBool, 1)
      .text("tokenizer.chat_template", "{{ messages }}");
  const auto tensor = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    if (name == changes.skipped_tensor) return;
    std::int64_t elements = 1;
    for (const std::int64_t n : shape) elements *= n;
    builder.tensor(name, GgmlType::kF32, shape, zeros(elements));
  };
  tensor("token_embd.weight", {7, channels});
  tensor("output_norm.weight", {channels});
  for (const char* name : {"attn_norm", "ffn_norm"})
    tensor("blk.0." + std::string(name) + ".weight", {channels});
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
    const std::string linear = "blk.0." + std::string(name);
    tensor(linear + ".weight", {channels, channels});
    std::vector<float> bias(static_cast<std::size_t>(channels));
    std::iota(bias.begin(), bias.end(), 0.0F);
    if (changes.attention_biases)
      builder.tensor(linear + ".bias", GgmlType::kF32, {channels}, floats(bias));
  }
  tensor("blk.0.ffn_gate.weight", {8, channels});
  tensor("blk.0.ffn_up.weight", {8, channels});
  tensor("blk.0.ffn_down.weight", {channels, 8});
  if (!changes.rope_divisors.empty()) {
    builder.tensor("rope_freqs.weight", GgmlType::kF32, {std::ssize(changes.rope_divisors)},
                   floats(changes.rope_divisors));
  }
  if (!changes.extra_tensor.empty()) tensor(changes.extra_tensor, {4});
  return builder.build();
}

class GgufImport : public ::testing::Test {
 protected:
  GgufImportReport import(const std::string& content, const GgufImportOptions& options = {}) {
    write_file_atomically(folder_ / "model.gguf", content);
    return import_gguf(folder_ / "model.gguf", target(), options);
  }

  /// The message of an import that has to fail and to leave nothing behind.
  std::string problem_of(const std::string& content, const GgufImportOptions& options = {}) {
    try {
      import(content, options);
    } catch (const Error& error) {
      EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()), 1)
          << "the import left something behind";
      return error.what();
    }
    return {};
  }

  std::string target() const { return folder_ / "models/out"; }
  Value json(const std::string& name) const {
    return read_json_file((fs::path(target()) / name).string());
  }

  TemporaryFolder folder_;
};

TEST_F(GgufImport, GivesTheTensorsOfTheOriginalExactly) {
  for (const std::string name : {"llama_q4_1", "llama_q5_mix"}) {
    const GgufImportReport report =
        import_gguf(fixture_path("gguf/" + name + ".gguf"), folder_ / name);
    EXPECT_EQ(report.dtype, DType::kF32);
    const CheckpointReader found(folder_ / name);
    const SafetensorsFile golden(fixture_path("gguf/" + name + ".expected.safetensors"));
    std::size_t compared = 0;
    for (const TensorInfo& tensor : golden.tensors()) {
      if (!tensor.name.starts_with("hf.")) continue;
      const std::string hf = tensor.name.substr(3);
      ASSERT_TRUE(found.contains(hf)) << hf;
      EXPECT_EQ(found.at(hf).shape, tensor.shape) << hf;
      const auto a = found.data(hf);
      const auto b = golden.data(tensor.name);
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << name << " " << hf;
      ++compared;
    }
    EXPECT_EQ(compared, found.names().size());
  }
}

/// The values of a tensor as float32.
std::vector<float> as_floats(DType dtype, std::span<const std::byte> bytes) {
  if (dtype == DType::kF32) return floats_of(bytes);
  std::vector<std::uint16_t> halves(bytes.size() / sizeof(std::uint16_t));
  std::memcpy(halves.data(), bytes.data(), bytes.size());
  std::vector<float> values;
  values.reserve(halves.size());
  for (const std::uint16_t half : halves)
    values.push_back(dtype == DType::kBF16 ? bfloat16_to_float(half) : half_to_float(half));
  return values;
}

TEST_F(GgufImport, GivesTheValuesOfEveryTypeExactly) {
  const Value digests = read_json_file(fixture_path("gguf/digests.json"));
  EXPECT_EQ(digests.as_table().size(), 10U);
  for (const auto& [name, tensors] : digests.as_table()) {
    import_gguf(fixture_path("gguf/" + name + ".gguf"), folder_ / name);
    const CheckpointReader found(folder_ / name);
    EXPECT_EQ(found.names().size(), tensors.as_table().size()) << name;
    for (const auto& [tensor, digest] : tensors.as_table()) {
      ASSERT_TRUE(found.contains(tensor)) << name << " " << tensor;
      const std::vector<float> values = as_floats(found.at(tensor).dtype, found.data(tensor));
      EXPECT_EQ(sha256(std::as_bytes(std::span(values))), digest.as_string())
          << name << " " << tensor;
    }
  }
}

TEST_F(GgufImport, WritesTheConfig) {
  const GgufImportReport report = import(small_llama());
  EXPECT_EQ(report.architecture, "LlamaForCausalLM");
  EXPECT_EQ(report.parameters, 7 * 4 + 4 + 2 * 4 + 4 * 16 + 3 * 32);
  const Value config = json("config.json");
  EXPECT_EQ(config.find("architectures")->as_array()[0].as_string(), "LlamaForCausalLM");
  EXPECT_EQ(config.find("model_type")->as_string(), "llama");
  EXPECT_EQ(config.find("head_dim")->as_int(), 2);
  EXPECT_EQ(config.find("num_key_value_heads")->as_int(), 2);
  EXPECT_EQ(config.find("rms_norm_eps")->as_float(), 1e-6);
  EXPECT_EQ(config.find("rope_theta")->as_float(), 500000.0);
  EXPECT_TRUE(config.find("rope_scaling")->is_null());
  EXPECT_FALSE(config.find("attention_bias")->as_bool());
  EXPECT_EQ(config.find("max_position_embeddings")->as_int(), 64);
  EXPECT_EQ(config.find("vocab_size")->as_int(), 7);
  EXPECT_TRUE(config.find("tie_word_embeddings")->as_bool());
  EXPECT_EQ(config.find("eos_token_id")->as_int(), 4);
  EXPECT_TRUE(config.find("pad_token_id")->is_null());
  EXPECT_EQ(config.find("torch_dtype")->as_string(), "bfloat16") << "zeros fit anything";
  EXPECT_EQ(json("generation_config.json").find("bos_token_id")->as_int(), 3);
}

TEST_F(GgufImport, ReordersBiasesAsTheRowsOfTheirWeights) {
  import(small_llama({.channels = 8, .attention_biases = true}), {.dtype = DType::kF32});
  EXPECT_TRUE(json("config.json").find("attention_bias")->as_bool());
  const CheckpointReader reader(target());
  const auto bias = [&](const std::string& name) {
    return floats_of(reader.data("model.layers.0.self_attn." + name + ".bias"));
  };
  EXPECT_EQ(bias("q_proj"), (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(bias("v_proj"), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(GgufImport, TranslatesRotaryScaling) {
  const auto scaling = [&](const LlamaChanges& changes) {
    import(small_llama(changes), {.overwrite = true});
    return dump_json(*json("config.json").find("rope_scaling"));
  };
  // transformers' divisors for rope_type "llama3", theta 500000, head_dim 32, factor 32.
  std::vector<float> divisors(16, 1.0F);
  divisors[8] = 3.29226255F;
  std::fill(divisors.begin() + 9, divisors.end(), 32.0F);
  EXPECT_EQ(scaling({.channels = 32, .heads = 1, .rope_divisors = divisors}),
            R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, )"
            R"("high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
  EXPECT_EQ(scaling({.rope_divisors = {1.0F}}), "null");
  const auto stated = [](const char* type) {
    return [type](GgufBuilder& builder) {
      builder.text("llama.rope.scaling.type", type)
          .number<float>("llama.rope.scaling.factor", GgufType::kF32, 2.5F)
          .number<std::uint32_t>("llama.rope.scaling.original_context_length", GgufType::kU32, 32);
    };
  };
  EXPECT_EQ(scaling({.metadata = stated("linear")}), R"({"rope_type": "linear", "factor": 2.5})");
  EXPECT_EQ(scaling({.metadata = stated("yarn")}),
            R"({"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 32})");
  EXPECT_THROW(scaling({.metadata = stated("longrope")}), Error);
  divisors[8] = 5;
  EXPECT_THROW(scaling({.channels = 32, .heads = 1, .rope_divisors = divisors}), Error);
}

TEST_F(GgufImport, SaysWhatMetadataItDidNotUnderstand) {
  const auto report = import(small_llama({.metadata = [](GgufBuilder& builder) {
    builder.number<float>("llama.attention.novel_scale", GgufType::kF32, 2.0F);
  }}));
  ASSERT_EQ(report.warnings.size(), 1U);
  EXPECT_NE(report.warnings[0].what.find("llama.attention.novel_scale"), std::string::npos);
}

TEST_F(GgufImport, UntiesTheHeadWhenTheFileHasOne) {
  import_gguf(fixture_path("gguf/llama_q4_1.gguf"), target());
  EXPECT_FALSE(json("config.json").find("tie_word_embeddings")->as_bool());
  EXPECT_TRUE(CheckpointReader(target()).contains("lm_head.weight"));
}

TEST_F(GgufImport, WritesTheTokenizer) {
  EXPECT_TRUE(import(small_llama()).has_tokenizer);
  const Value tokenizer = json("tokenizer.json");
  const Value& vocabulary = *tokenizer.find_path("model.vocab");
  EXPECT_EQ(vocabulary.as_table().size(), 6U) << "all but the padding of the embedding";
  EXPECT_EQ(vocabulary.find("ab")->as_int(), 2);
  EXPECT_EQ(dump_json(*tokenizer.find_path("model.merges")), R"([["a", "b"]])");
  EXPECT_EQ(
      dump_json(*tokenizer.find("pre_tokenizer")),
      R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, )"
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})");
  const Array& added = tokenizer.find("added_tokens")->as_array();
  ASSERT_EQ(added.size(), 3U);
  EXPECT_TRUE(added[0].find("special")->as_bool());
  EXPECT_EQ(added[2].find("content")->as_string(), "<user>");
  EXPECT_FALSE(added[2].find("special")->as_bool());
  const std::string post = dump_json(*tokenizer.find("post_processor"));
  EXPECT_NE(post.find(R"("single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence")"),
            std::string::npos)
      << post;
  const Value config = json("tokenizer_config.json");
  EXPECT_EQ(config.find("bos_token")->as_string(), "<s>");
  EXPECT_EQ(config.find("chat_template")->as_string(), "{{ messages }}");
  EXPECT_EQ(read_file(target() + "/chat_template.jinja"), "{{ messages }}");
  EXPECT_EQ(json("special_tokens_map.json").find("eos_token")->as_string(), "</s>");
}

TEST_F(GgufImport, WarnsWhereTheTokenizerIsNotSupported) {
  const GgufImportReport spm = import_gguf(fixture_path("gguf/llama_q5_mix.gguf"), folder_ / "spm");
  EXPECT_FALSE(spm.has_tokenizer);
  ASSERT_EQ(spm.warnings.size(), 1U);
  EXPECT_NE(spm.warnings[0].what.find("tokenizer"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "spm/tokenizer.json"));
  const GgufImportReport none =
      import_gguf(fixture_path("gguf/llama_k_mix.gguf"), folder_ / "none");
  EXPECT_EQ(none.warnings.size(), 1U);
  const GgufImportReport unknown = import(small_llama({.pre = "from-the-future"}));
  EXPECT_FALSE(unknown.has_tokenizer);
  EXPECT_EQ(unknown.warnings.at(0).found, "from-the-future");
}

TEST_F(GgufImport, ConvertsToTheTypeAskedFor) {
  const std::string source = fixture_path("gguf/llama_q4_1.gguf");
  import_gguf(source, folder_ / "f32");
  const CheckpointReader exact(folder_ / "f32");
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const std::string out = folder_ / std::string(dtype_name(dtype));
    import_gguf(source, out, {.dtype = dtype, .max_shard_bytes = 50000});
    EXPECT_TRUE(fs::exists(out + "/model.safetensors.index.json"));
    const CheckpointReader reader(out);
    reader.verify();
    for (const std::string& name : reader.names()) {
      ASSERT_EQ(reader.at(name).dtype, dtype);
      const std::vector<float> values = floats_of(exact.data(name));
      std::vector<std::uint16_t> found(values.size());
      std::memcpy(found.data(), reader.data(name).data(), reader.data(name).size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(found[i],
                  dtype == DType::kF16 ? float_to_half(values[i]) : float_to_bfloat16(values[i]));
      }
    }
  }
  EXPECT_THROW(import_gguf(source, folder_ / "i8", {.dtype = DType::kI8}), Error);
}

TEST_F(GgufImport, RefusesWhatItDoesNotKnow) {
  EXPECT_NE(problem_of(small_llama({.architecture = "rwkv"})).find("rwkv"), std::string::npos);
  const std::string missing = problem_of(small_llama(
      {.skipped_tensor = "blk.0.ffn_up.weight", .extra_tensor = "blk.0.attn_sinks.weight"}));
  EXPECT_NE(missing.find("'blk.0.ffn_up.weight' is missing"), std::string::npos) << missing;
  EXPECT_NE(missing.find("'blk.0.attn_sinks.weight' has no place"), std::string::npos) << missing;
  EXPECT_NE(problem_of(small_llama({.heads = 4})), "") << "heads of one channel can't rotate";
  EXPECT_NE(problem_of("not a GGUF file"), "");
}

TEST_F(GgufImport, RefusesTokenizersThatContradictThemselves) {
  EXPECT_NE(problem_of(small_llama({.types = {1, 1}})).find("token types"), std::string::npos);
  EXPECT_NE(problem_of(small_llama({.merges = {"a c"}})).find("merge"), std::string::npos);
  EXPECT_NE(problem_of(small_llama({.merges = {""}})).find("merge"), std::string::npos);
  EXPECT_NE(problem_of(small_llama({.tokens = {"a", "a", "ab", "<s>", "</s>", "<u>", "[PAD6]"}}))
                .find("appears twice"),
            std::string::npos);
  EXPECT_NE(problem_of(small_llama({.tokens = {"a", "b", "ab", "\xFF", "</s>", "<u>", "[PAD6]"}}))
                .find("UTF-8"),
            std::string::npos);
  EXPECT_NE(problem_of(small_llama({.eos = 99})).find("99"), std::string::npos);
}

TEST_F(GgufImport, LeavesNothingBehindWhenWritingFails) {
  // Too large for float16: seen only while the weights are written.
  std::string content = small_llama();
  const float large = 1e6F;
  std::memcpy(content.data() + content.size() - sizeof large, &large, sizeof large);
  EXPECT_NE(problem_of(content, {.dtype = DType::kF16}).find("too large"), std::string::npos);
}

TEST_F(GgufImport, ReplacesOnlyModelsAndOnlyWhenAsked) {
  const std::string content = small_llama();
  fs::create_directories(target());
  import(content);  // an empty folder is fine
  EXPECT_THROW(import(content), Error);
  std::ofstream(target() + "/config.json") << "old";
  import(content, {.overwrite = true});
  EXPECT_EQ(json("config.json").find("model_type")->as_string(), "llama");
  std::ofstream(target() + "/thesis.txt") << "precious";
  EXPECT_THROW(import(content, {.overwrite = true}), Error);
  EXPECT_EQ(read_file(target() + "/thesis.txt"), "precious");
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(target()).parent_path()),
                          fs::directory_iterator()),
            1);
}

}  // namespace
}  // namespace espalier::formats
