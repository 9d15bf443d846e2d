// The commands that compute, held against the reference dumps.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors.h"
#include "fixture_path.h"
#include "support/process.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;
using testing::run_espalier;

constexpr double kLogitsLimit = 1e-5;  // of the largest reference logit

std::vector<float> floats_of(const std::string& path, const std::string& name) {
  const SafetensorsFile file(path);
  const auto bytes = file.data(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// A model folder below tests/fixtures/models, and the folder whose dump it is held against.
struct ParityCase {
  const char* folder;
  const char* reference;
};

class Parity : public ::testing::TestWithParam<ParityCase> {};

TEST_P(Parity, LogitsLossAndEveryGradientHold) {
  const std::string models = fixture_path("models/");
  const auto result =
      run_espalier({"parity", "--model", models + GetParam().folder, "--expected",
                    models + GetParam().reference + "/expected.safetensors", "--json"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 1) << result.err;
  const Value document = parse_json(result.out);
  std::size_t gradients = 0;
  std::vector<std::string> names;
  for (const Value& row : document.find("rows")->as_array()) {
    const std::string name = row.find("name")->as_string();
    EXPECT_TRUE(row.find("ok")->as_bool()) << dump_json(row);
    names.push_back(name);
    gradients += name.starts_with("grad.") ? 1 : 0;
  }
  for (const char* name :
       {"logits", "loss", "padded_left.logits", "padded_right.logits", "packed.logits"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
  const SafetensorsFile reference(models + GetParam().reference + "/expected.safetensors");
  const auto is_gradient = [](const TensorInfo& tensor) {
    return tensor.name.starts_with("grad.");
  };
  EXPECT_EQ(static_cast<std::ptrdiff_t>(gradients),
            std::count_if(reference.tensors().begin(), reference.tensors().end(), is_gradient));
  EXPECT_EQ(result.exit_code, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Models, Parity,
    ::testing::Values(ParityCase{"llama", "llama"}, ParityCase{"llama/sharded", "llama"},
                      ParityCase{"llama/bf16", "llama"},
                      ParityCase{"llama_dynamic", "llama_dynamic"},
                      ParityCase{"llama_linear_rope", "llama_linear_rope"},
                      ParityCase{"llama_rope3", "llama_rope3"},
                      ParityCase{"llama_tied", "llama_tied"},
                      ParityCase{"llama_yarn", "llama_yarn"}, ParityCase{"mistral", "mistral"},
                      ParityCase{"qwen2", "qwen2"}, ParityCase{"gpt2", "gpt2"}),
    [](const auto& info) {
      std::string name = info.param.folder;
      std::replace(name.begin(), name.end(), '/', '_');
      return name;
    });

TEST(ParityCommand, TellsWhenAModelIsAnother) {
  const testing::TemporaryFolder folder;
  fs::copy(fixture_path("models/llama"), folder.file("model"));
  std::string content = read_file(folder.file("model/model.safetensors"));
  float last = 0;
  std::memcpy(&last, content.data() + content.size() - sizeof last, sizeof last);
  last += 0.01F;  // of weights of about 0.1
  std::memcpy(content.data() + content.size() - sizeof last, &last, sizeof last);
  fs::remove(folder.file("model/model.safetensors"));
  folder.write("model/model.safetensors", content);
  const auto result = run_espalier({"parity", "--model", folder.file("model"), "--expected",
                                    fixture_path("models/llama/expected.safetensors")});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_NE(result.out.find("TOO LARGE"), std::string::npos) << result.out;
}

class GgufImport : public ::testing::TestWithParam<const char*> {};

TEST_P(GgufImport, ImportedModelGivesTheReferenceLogits) {
  const testing::TemporaryFolder folder;
  const std::string stem = fixture_path(std::string("gguf/") + GetParam());
  const auto import = run_espalier({"import", stem + ".gguf", folder.file("model")});
  ASSERT_EQ(import.exit_code, 0) << import.err;
  const auto score = run_espalier(
      {"score", "--model", folder.file("model"), "--input", stem + ".expected.safetensors",
       "--output", folder.file("out.safetensors"), "--logits", "--dtype", "float32"});
  ASSERT_EQ(score.exit_code, 0) << score.err;
  const std::vector<float> expected = floats_of(stem + ".expected.safetensors", "logits");
  const std::vector<float> actual = floats_of(folder.file("out.safetensors"), "logits");
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i]));
    largest = std::max(largest, static_cast<double>(std::abs(expected[i])));
    worst = std::max(worst, static_cast<double>(std::abs(actual[i] - expected[i])));
  }
  EXPECT_LE(worst, kLogitsLimit * largest);
}

INSTANTIATE_TEST_SUITE_P(Files, GgufImport,
                         ::testing::Values("llama_f32", "llama_f16", "llama_bf16", "llama_q4_0",
                                           "llama_q4_1", "llama_q5_mix", "llama_q8_0", "llama_q4_k",
                                           "llama_q6_k", "llama_k_mix"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Doctor, TriesOutWhatComputesAndTalks) {
  const auto result = run_espalier({"plugins", "doctor", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Value document = parse_json(result.out);
  const Value& machine = *document.find("machine");
  for (const char* fact : {"libtorch", "libtorch_version", "instruction_set", "matrix_products",
                           "allocator", "cpu_features", "cuda", "collectives", "open_files_limit"})
    EXPECT_NE(machine.find(fact), nullptr) << fact;
  const std::string& products = machine.find("matrix_products")->as_string();
  EXPECT_NE(products.find("in float32 (mkl)"), std::string::npos) << products;
  const std::string& collectives = machine.find("collectives")->as_string();
  EXPECT_NE(collectives.find("agreed through Gloo"), std::string::npos) << collectives;
}

}  // namespace
}  // namespace espalier
