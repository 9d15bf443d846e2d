// Heads on decoders, held against the classes of transformers for the same tiny models; each folder
// below tests/fixtures/heads is one case.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "engine/checkpoint/export.h"
#include "engine/run/component_library.h"
#include "engine/run/score_task.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/linear.h"
#include "fixture_path.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fixture_path("heads"))) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

LoadedModel load(ComponentLibrary& library, const std::string& folder,
                 const std::string& task = "auto") {
  ModelLoadOptions options;
  options.compute_dtype = "float32";
  options.task = task;
  return library.from_pretrained(folder, options);
}

class HeadParity : public ::testing::TestWithParam<std::string> {
 protected:
  std::string folder() const { return fixture_path("heads/" + GetParam()); }
  ComponentLibrary library_;
};

// Limits: TOLERANCES.md of the reference data, fp32.
TEST_P(HeadParity, ScoresLossAndGradientsAreThoseOfTransformers) {
  const bool embeds = GetParam().ends_with("embedding");
  const LoadedModel loaded = load(library_, folder(), embeds ? "embedding" : "auto");
  const auto expected = read_tensors(folder() + "/expected.safetensors");
  if (embeds) {
    for (const std::string pooling : {"mean", "last"}) {
      for (const bool normalize : {false, true}) {
        const auto results = score_task(loaded, expected, {true, false, pooling, normalize});
        const at::Tensor& wanted =
            expected.at("embeddings." + pooling + (normalize ? ".normalized" : ""));
        EXPECT_LE(largest(results.at("embeddings") - wanted), 1e-5 * largest(wanted)) << pooling;
      }
    }
    return;
  }
  const auto results = score_task(loaded, expected, {true, true, "mean", false});
  const at::Tensor mask = GetParam().ends_with("tokens")
                              ? expected.at("attention_mask").unsqueeze(-1).to(at::kFloat)
                              : at::Tensor();
  const at::Tensor wanted = mask.defined() ? expected.at("logits") * mask
                                           : expected.at("logits");  // pads give zeros here
  EXPECT_LE(largest(results.at("logits") - wanted), 1e-5 * largest(wanted));
  const double loss = expected.at("loss").item<double>();
  EXPECT_NEAR(results.at("loss").item<double>(), loss, 1e-5 * std::abs(loss));
  double of_all = 0;
  for (const auto& [name, tensor] : expected) {
    if (name.starts_with("grad.")) of_all = std::max(of_all, largest(tensor));
  }
  std::size_t compared = 0;
  for (const auto& [name, tensor] : expected) {
    if (!name.starts_with("grad.") || !results.contains(name)) continue;
    ++compared;
    EXPECT_LE(largest(results.at(name) - tensor), 1e-4 * largest(tensor) + 1e-6 * of_all) << name;
  }
  EXPECT_GT(compared, 5U);
  EXPECT_TRUE(results.contains("grad." + loaded.model->head().linear().name() + ".weight"));
}

TEST_P(HeadParity, AreExportedUnderTheNamesTheyWereReadFrom) {
  const bool embeds = GetParam().ends_with("embedding");
  const LoadedModel loaded = load(library_, folder(), embeds ? "embedding" : "auto");
  const testing::TemporaryFolder temporary;
  const std::string exported = temporary.file("exported");
  export_model(loaded, exported);
  const auto original = read_tensors(folder() + "/model.safetensors");
  const auto written = read_tensors(exported + "/model.safetensors");
  ASSERT_EQ(written.size(), original.size());
  for (const auto& [name, tensor] : original) {
    ASSERT_TRUE(written.contains(name)) << name;
    EXPECT_TRUE(tensor.equal(written.at(name))) << name;
  }
  EXPECT_EQ(*read_json_file(exported + "/config.json").find("architectures"),
            *read_json_file(folder() + "/config.json").find("architectures"));
}

INSTANTIATE_TEST_SUITE_P(Heads, HeadParity, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param; });

TEST(NewHead, GoesOnALanguageModelUnderTheFamilysName) {
  ComponentLibrary library;
  ModelLoadOptions options;
  options.task = "token_classification";
  Table config;
  config.set("num_labels", 7);
  options.config = std::move(config);
  const LoadedModel gpt2 = library.from_pretrained(fixture_path("models/gpt2"), options);
  EXPECT_EQ(gpt2.model->head().linear().name(), "classifier");
  EXPECT_EQ(gpt2.model->head().vocab_size(), 7);
  ASSERT_FALSE(gpt2.notes.empty());
  EXPECT_NE(gpt2.notes.back().find("classifier.weight"), std::string::npos);
  EXPECT_EQ(gpt2.config.find("architectures")->as_array()[0].as_string(),
            "GPT2ForTokenClassification");
  EXPECT_EQ(gpt2.config.find("id2label")->as_table().size(), 7U);

  options.task = "sequence_classification";
  const LoadedModel llama = library.from_pretrained(fixture_path("models/llama"), options);
  EXPECT_EQ(llama.model->head().linear().name(), "score");
  EXPECT_EQ(llama.model->head().linear().bias(), nullptr);
  for (const auto& parameter : llama.model->parts().parameters)
    EXPECT_NE(parameter->name(), "lm_head.weight");
}

TEST(NewHead, RefusesLabelsThatAreNoClasses) {
  ComponentLibrary library;
  const std::string folder = fixture_path("heads/llama_classes");
  const LoadedModel loaded = load(library, folder);
  auto input = read_tensors(folder + "/expected.safetensors");
  input["labels"] = input.at("labels") + 3;
  try {
    score_task(loaded, input, {});
    FAIL() << "labels outside of the classes were taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("0 to 2"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace espalier
