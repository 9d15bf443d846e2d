// How a model's folder becomes a model: overrides of its config, dtypes, tied heads, attention.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/run/component_library.h"
#include "engine/run/score.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/linear.h"
#include "fixture_path.h"
#include "plugin/model_config.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;
using testing::TemporaryFolder;

Value parsed(const std::string& text) { return parse_json(text); }

std::string refusal(const std::string& config, const std::string& overrides) {
  try {
    plugin::with_config_overrides(parsed(config), parsed(overrides));
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(ConfigOverrides, GoTableByTable) {
  const Value config = plugin::with_config_overrides(
      parsed(R"({"a_size": 1, "text_config": {"hidden_size": 8, "x": 1}})"),
      parsed(R"({"a_size": 2, "text_config": {"hidden_size": 16}, "sliding_window": null})"));
  EXPECT_EQ(config, parsed(R"({"a_size": 2, "text_config": {"hidden_size": 16, "x": 1},
                               "sliding_window": null})"));
}

TEST(ConfigOverrides, ARotaryBaseGoesWhereNewerConfigsKeepIt) {
  const Value config = plugin::with_config_overrides(
      parsed(R"({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}})"),
      parsed(R"({"rope_theta": 5e5})"));
  EXPECT_EQ(config.find_path("rope_parameters.rope_theta")->as_float(), 5e5);
  EXPECT_EQ(config.find("rope_theta"), nullptr);
}

TEST(ConfigOverrides, UnknownKeysAndOtherTypesAreRefusedTogether) {
  const std::string message =
      refusal(R"({"hidden_size": 8, "act": "silu"})", R"({"hiden_size": 9, "act": 3})");
  EXPECT_NE(message.find("hidden_size"), std::string::npos) << message;
  EXPECT_NE(message.find("model.config.act"), std::string::npos) << message;
  EXPECT_NE(
      refusal(R"({"text_config": {"depth": 8}})", R"({"depth": 9})").find("text_config.depth"),
      std::string::npos);
}

/// A copy of a fixture whose files may be changed.
std::string copy_of(const std::string& name, const TemporaryFolder& folder) {
  std::string copy = folder.file("model");
  fs::create_directory(copy);
  for (const char* file : {"config.json", "model.safetensors"})
    folder.write(std::string("model/") + file,
                 read_file(fixture_path("models/" + name) + "/" + file));
  return copy;
}

void set_config(const std::string& model, const std::string& key, const Value& value) {
  Value config = read_json_file(model + "/config.json");
  config.as_table().set(key, value);
  write_file_atomically(model + "/config.json", dump_json(config));
}

TEST(Dtype, EachTensorKeepsItsOwnAndTheWiderOnesAreNotNarrowed) {
  const TemporaryFolder folder;
  const std::string model = copy_of("llama", folder);
  auto tensors = read_tensors(model + "/model.safetensors");
  const std::string wide = "model.norm.weight";
  for (auto& [name, tensor] : tensors)
    if (name != wide) tensor = tensor.to(at::kBFloat16);
  write_tensors(model + "/model.safetensors", tensors);
  ComponentLibrary library;
  for (const std::string dtype : {"auto", "bfloat16", "float32"}) {
    ModelLoadOptions options;
    options.dtype = dtype;
    const LoadedModel loaded = library.from_pretrained(model, options);
    for (const auto& parameter : loaded.model->parts().parameters) {
      const bool wider = parameter->name() == wide || dtype == "float32";
      EXPECT_EQ(parameter->value().scalar_type(), wider ? at::kFloat : at::kBFloat16)
          << dtype << " " << parameter->name();
    }
  }
}

TEST(TiedHead, IsNotTiedWhereTheCheckpointHasAnother) {
  const TemporaryFolder folder;
  const std::string model = copy_of("llama", folder);
  set_config(model, "tie_word_embeddings", true);
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(model, {});
  EXPECT_EQ(loaded.notes.size(), 1U);
  EXPECT_EQ(loaded.model->head().linear().weight()->name(), "lm_head.weight");
  EXPECT_FALSE(loaded.config.find("tie_word_embeddings")->as_bool());
}

TEST(TiedHead, LiesUnderTheHeadsNameAlone) {
  const TemporaryFolder folder;
  const std::string model = copy_of("llama_tied", folder);
  auto tensors = read_tensors(model + "/model.safetensors");
  const at::Tensor table = tensors.at("model.embed_tokens.weight");
  tensors.erase("model.embed_tokens.weight");
  tensors["lm_head.weight"] = table;
  write_tensors(model + "/model.safetensors", tensors);
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(model, {});
  EXPECT_TRUE(
      loaded.model->head().linear().weight()->value().to(at::kFloat).equal(table.to(at::kFloat)));
}

TEST(TiedHead, ThatIsMissingIsAnErrorWithTheOverrideThatTies) {
  const TemporaryFolder folder;
  const std::string model = copy_of("llama_tied", folder);
  set_config(model, "tie_word_embeddings", false);
  ComponentLibrary library;
  try {
    library.from_pretrained(model, {});
    FAIL() << "a head was made up";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("tie_word_embeddings = true"), std::string::npos)
        << error.what();
  }
  ModelLoadOptions options;
  Table config;
  config.set("tie_word_embeddings", true);
  options.config = std::move(config);
  EXPECT_NO_THROW(library.from_pretrained(model, options));
}

TEST(Attention, EagerComputesWhatSdpaDoesAndFlashFallsBackWithTheReason) {
  ComponentLibrary library;
  const std::string folder = fixture_path("models/mistral");
  const auto expected = read_tensors(folder + "/expected.safetensors");
  ModelLoadOptions options;
  options.dtype = options.compute_dtype = "float32";
  options.attn_implementation = "eager";
  const LoadedModel eager = library.from_pretrained(folder, options);
  EXPECT_EQ(eager.attention, "eager");
  const auto results =
      score(*eager.model, {{"input_ids", expected.at("input_ids")}}, {.logits = true});
  const at::Tensor& wanted = expected.at("logits");
  EXPECT_LE((results.at("logits") - wanted).abs().max().item<double>(),
            1e-5 * wanted.abs().max().item<double>());
  options.attn_implementation = "flash_attention_3";
  const LoadedModel flash = library.from_pretrained(folder, options);
  EXPECT_EQ(flash.attention, "sdpa");
  EXPECT_NE(flash.attention_reason.find("flash_attention_3"), std::string::npos);
}

}  // namespace
}  // namespace espalier
