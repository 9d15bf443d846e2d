// Every dense decoder family, held against what transformers computes on the same tiny model; each
// folder below tests/fixtures/families is one case.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "engine/checkpoint/export.h"
#include "engine/generate/generator.h"
#include "engine/run/component_library.h"
#include "engine/run/dropout_note.h"
#include "engine/run/parity.h"
#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/alibi.h"
#include "espalier/nn/attention_core.h"
#include "espalier/nn/embedding.h"
#include "fixture_path.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;

constexpr double kClearMargin = 1e-3;  // between the two best scores: below it ids may differ

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fixture_path("families")))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

ModelLoadOptions in_float32() {
  ModelLoadOptions options;
  options.dtype = "float32";
  options.compute_dtype = "float32";
  return options;
}

class Family : public ::testing::TestWithParam<std::string> {
 protected:
  std::string folder() const { return fixture_path("families/" + GetParam()); }
  ComponentLibrary library_;
};

TEST_P(Family, ComputesWhatTransformersComputes) {
  const auto expected = read_tensors(folder() + "/expected.safetensors");
  const auto source = [&](const std::string& dtype) {
    ModelLoadOptions options;
    options.dtype = dtype;
    options.compute_dtype = dtype;
    return library_.from_pretrained(folder(), options);
  };
  const std::vector<ParityRow> rows = compare_with_reference(source, expected);
  std::set<std::string> compared;
  for (const ParityRow& row : rows) {
    EXPECT_TRUE(row.holds()) << row.name << ": " << row.maximum_difference << " > " << row.limit;
    compared.insert(row.name);
  }
  for (const char* name :
       {"logits", "loss", "hidden.0", "padded_left.logits", "padded_right.logits", "packed.logits"})
    EXPECT_TRUE(compared.contains(name)) << name;
  for (const auto& [name, tensor] : expected) {
    const bool compares = !name.starts_with("grad.") || compared.contains(name);
    EXPECT_TRUE(compares) << name;
  }
}

TEST_P(Family, ContinuesAPromptAsTransformersDoes) {
  const LoadedModel loaded = library_.from_pretrained(folder(), in_float32());
  const Value document = read_json_file(folder() + "/generate.json");
  const auto ids_of = [&](const char* key) {
    std::vector<std::int64_t> ids;
    for (const Value& id : document.find(key)->as_array()) ids.push_back(id.as_int());
    return ids;
  };
  GenerateOptions options;
  options.max_new_tokens = document.find("max_new_tokens")->as_int();
  ASSERT_GT(document.find("greedy_min_margin")->as_float(), kClearMargin);
  EXPECT_EQ(generate(*loaded.model, ids_of("prompt"), options), ids_of("greedy"));
  ASSERT_GT(document.find("repetition_penalty_min_margin")->as_float(), kClearMargin);
  options.sampling.repetition_penalty = document.find("repetition_penalty")->as_float();
  EXPECT_EQ(generate(*loaded.model, ids_of("prompt"), options),
            ids_of("greedy_repetition_penalty"));
}

INSTANTIATE_TEST_SUITE_P(Decoders, Family, ::testing::ValuesIn(families()),
                         [](const auto& info) { return info.param; });

// One process for all families: loading LibTorch takes longer than these.

TEST(AllFamilies, AreExportedUnderTheNamesTheyWereReadFrom) {
  ComponentLibrary library;
  for (const std::string& family : families()) {
    SCOPED_TRACE(family);
    const std::string folder = fixture_path("families/" + family);
    const LoadedModel loaded = library.from_pretrained(folder, in_float32());
    const testing::TemporaryFolder temporary;
    const std::string exported = temporary.file("exported");
    export_model(loaded, exported);
    const auto original = read_tensors(folder + "/model.safetensors");
    const auto written = read_tensors(exported + "/model.safetensors");
    ASSERT_EQ(written.size(), original.size());
    for (const auto& [name, tensor] : original) {
      ASSERT_TRUE(written.contains(name)) << name;
      EXPECT_TRUE(tensor.equal(written.at(name))) << name;
    }
  }
}

/// Logits of the main batch of a family's dump, [batch, seq, vocab] in float32.
at::Tensor logits_of(const LoadedModel& loaded, const at::Tensor& input_ids) {
  ModelInput input;
  input.tensors = {{"input_ids", input_ids}};
  const ModelOutput output = loaded.model->forward(input);
  EXPECT_EQ(output.hidden.scalar_type(), loaded.compute_dtype);
  return output.layout.unflatten(loaded.model->head().project(output.hidden)).to(at::kFloat);
}

TEST(AllFamilies, StartFromTheirConfigAlone) {
  ComponentLibrary library;
  ModelLoadOptions options = in_float32();
  options.random_weights = true;
  for (const std::string& family : families()) {
    SCOPED_TRACE(family);
    const std::string folder = fixture_path("families/" + family);
    const LoadedModel loaded = library.from_pretrained(folder, options);
    const auto expected = read_tensors(folder + "/expected.safetensors");
    EXPECT_TRUE(logits_of(loaded, expected.at("input_ids")).isfinite().all().item<bool>());
  }
}

TEST(AllFamilies, RunInBfloat16) {
  ComponentLibrary library;
  ModelLoadOptions options;
  options.dtype = "bfloat16";
  options.compute_dtype = "bfloat16";
  for (const std::string& family : families()) {
    SCOPED_TRACE(family);
    const std::string folder = fixture_path("families/" + family);
    const LoadedModel loaded = library.from_pretrained(folder, options);
    const auto expected = read_tensors(folder + "/expected.safetensors");
    const at::Tensor& reference = expected.at("logits");
    const at::Tensor difference = logits_of(loaded, expected.at("input_ids")) - reference;
    // bf16 has 8 bits, and a few layers add up a few roundings: a wrong dtype or factor is far off.
    EXPECT_LT(difference.abs().mean().item<double>(), 0.02 * reference.abs().max().item<double>());
  }
}

// ---- configs that a family can't build ----

struct Refusal {
  const char* family;
  const char* patch;    ///< JSON laid over config.json
  const char* message;  ///< part of the error
};

/// The message of loading a family whose config.json has `patch` laid over it; "" when it loads.
std::string error_of(const std::string& family, const char* patch) {
  const testing::TemporaryFolder folder;
  const std::string original = fixture_path("families/" + family);
  fs::copy(original, folder.file("model"));
  Value config = read_json_file(original + "/config.json");
  const Value patches = parse_json(patch);
  for (const auto& [key, value] : patches.as_table()) config.as_table().set(key, value);
  folder.write("model/config.json", dump_json(config));
  ComponentLibrary library;
  try {
    library.from_pretrained(folder.file("model"));
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(ConfigsThatAFamilyCantBuild, AreRefusedByNameOfTheKey) {
  const std::vector<Refusal> refusals = {
      {"gemma2", R"({"use_bidirectional_attention": true})", "use_bidirectional_attention"},
      {"gemma2", R"({"sliding_window": null})", "sliding_window"},
      {"gemma3", R"({"layer_types": ["chunked_attention", "full_attention"]})", "layer_types"},
      {"cohere2", R"({"layer_types": ["full_attention"]})", "layer_types"},
      {"smollm3", R"({"no_rope_layers": [1]})", "no_rope_layers"},
      {"phi3", R"({"rope_scaling": {"type": "linear", "factor": 2.0}})", "longrope"},
      {"falcon_grouped", R"({"parallel_attn": false})", "parallel_attn"},
      {"falcon", R"({"num_ln_in_parallel_attn": 2})", "num_ln_in_parallel_attn"},
      {"glm4", R"({"partial_rotary_factor": 0.4})", "partial_rotary_factor"},
      {"qwen3", R"({"partial_rotary_factor": 0.5})", "whole heads"},
      {"granite", R"({"logits_scaling": 0.0})", "logits_scaling"},
      {"olmo2", R"({"num_key_value_heads": 3})", "num_key_value_heads"},
      {"opt", R"({"pad_token_id": 99})", "pad_token_id"}};
  for (const Refusal& refusal : refusals) {
    const std::string error = error_of(refusal.family, refusal.patch);
    EXPECT_NE(error.find(refusal.message), std::string::npos) << refusal.patch << "\n" << error;
  }
}

// ---- which plugin serves a folder ----

TEST(Resolution, TakesTheModelTypeOfAnotherClassOfTheFamily) {
  EXPECT_EQ(error_of("olmo2", R"({"architectures": ["Olmo2Model"]})"), "");
  EXPECT_EQ(error_of("olmo2", R"({"architectures": null})"), "");
}

TEST(Resolution, NamesTheNearestWhereNothingServesTheFolder) {
  std::string error = error_of(
      "olmo2", R"({"architectures": ["Starcoder3ForCausalLM"], "model_type": "starcoder3"})");
  EXPECT_NE(error.find("no plugin serves this model"), std::string::npos) << error;
  EXPECT_NE(error.find("did you mean 'Starcoder2ForCausalLM'"), std::string::npos) << error;
  error = error_of("olmo2", R"({"architectures": ["Other"], "model_type": "olmo4"})");
  EXPECT_NE(error.find("of the model types, did you mean 'olmo2', 'olmo3'"), std::string::npos)
      << error;
}

TEST(Resolution, DoesNotGuessWhereTheFolderBringsItsOwnCode) {
  const std::string error = error_of(
      "olmo2", R"({"architectures": ["OlmoModel"], "auto_map": {"AutoModel": "code.OlmoModel"}})");
  EXPECT_NE(error.find("no plugin serves this model"), std::string::npos) << error;
}

// ---- attention with scores written out ----

TEST(DocumentAttention, GivesTheSameWithScoresWrittenOut) {
  BatchContext batch;
  batch.layout.document_starts = {0, 700, 1100};
  const at::Tensor q = at::randn({1100, 4, 8});
  const at::Tensor k = at::randn({1100, 2, 8});
  const at::Tensor v = at::randn({1100, 2, 8});
  nn::DocumentAttention core;
  for (const std::int64_t window : {0, 150, 300}) {
    nn::AttentionContext context{batch};
    context.scale = 0.3;
    if (window > 0) context.sliding_window = window;
    const at::Tensor fused = core.attend(q, k, v, context);
    context.soft_cap = 1e5;  // far beyond any score: no more than rounding
    const at::Tensor written_out = core.attend(q, k, v, context);
    EXPECT_LT((fused - written_out).abs().max().item<double>(), 1e-5) << "window " << window;
  }
}

// ---- ALiBi ----

TEST(AlibiBias, IsRoundedAsInTransformers) {
  const at::Tensor bias = nn::alibi_bias(20, 300);
  const std::vector<std::array<double, 3>> values = {
      {0, 3, 2.125}, {0, 299, 212.0}, {14, 257, 1.4140625}, {16, 299, 252.0}, {19, 7, 2.078125}};
  for (const auto& [head, position, value] : values) {
    EXPECT_EQ(
        bias[static_cast<std::int64_t>(head)][static_cast<std::int64_t>(position)].item<double>(),
        value);
  }
}

// ---- what is not done ----

TEST(DropoutNote, NamesTheKeysThatAskForIt) {
  EXPECT_EQ(dropout_note(parse_json(R"({"attn_pdrop": 0.0, "classifier_dropout": 0.1})")), "");
  const std::string note = dropout_note(parse_json(
      R"({"attn_pdrop": 0.1, "hidden_dropout": 0.2, "layerdrop": 0, "attention_dropout": null, "eps": 1})"));
  EXPECT_NE(note.find("(attn_pdrop 0.1, hidden_dropout 0.2)"), std::string::npos) << note;
}

// ---- padding ----

TEST(PaddingId, HasAnEmbeddingThatIsNotTrained) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(fixture_path("families/qwen3"), in_float32());
  const std::int64_t padding = loaded.config.find("pad_token_id")->as_int();
  ModelInput input;
  input.tensors = {
      {"input_ids",
       read_tensors(fixture_path("families/qwen3/expected.safetensors")).at("input_ids")}};
  at::Tensor& ids = input.tensors.at("input_ids");
  ids.select(1, 3).fill_(padding);
  loaded.model->forward(input).hidden.sum().backward();
  const auto& table = loaded.model->parts().embeddings.at(0)->weight();
  EXPECT_EQ(table->value().grad()[padding].abs().sum().item<double>(), 0.0);
  EXPECT_GT(table->value().grad()[ids[0][0].item<std::int64_t>()].abs().sum().item<double>(), 0.0);
}

}  // namespace
}  // namespace espalier
