// Models for other programs, by the commands: GGUF files and converted folders.
#include <gtest/gtest.h>

#include <filesystem>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/file.h"
#include "espalier/base/gguf.h"
#include "espalier/base/json.h"
#include "fixture_path.h"
#include "support/process.h"
#include "support/temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;
using testing::run_espalier;

/// Trains a few steps of `more` in `folder`/run.
void train(const testing::TemporaryFolder& folder, const std::string& more) {
  const std::string recipe =
      folder.write("r.toml", "output_dir = \"" + folder.file("run") + "\"\n[model]\npath = \"" +
                                 fixture_path("models/llama") +
                                 "\"\n[dataset]\ntype = \"mock\"\nvocab_size = 64\nseq_length = 8\n"
                                 "[step_scheduler]\nmax_steps = 2\nglobal_batch_size = 2\n"
                                 "local_batch_size = 2\n" +
                                 more);
  const auto result = run_espalier({"train", recipe, "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
}

TEST(ExportCommand, ARunAndItsExportedFolderGiveTheSameGgufTensors) {
  const testing::TemporaryFolder folder;
  train(folder, "");
  for (const char* source : {"run", "run/final"}) {
    const auto result =
        run_espalier({"export", folder.file(source), "--format", "gguf", "--dtype", "f32",
                      "--output", folder.file(fs::path(source).filename().string() + ".gguf")});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  const GgufFile run(folder.file("run.gguf"));
  const GgufFile final_folder(folder.file("final.gguf"));
  ASSERT_EQ(run.tensors().size(), final_folder.tensors().size());
  for (const GgufTensor& tensor : run.tensors()) {
    const auto here = run.data(tensor);
    const auto there = final_folder.data(*final_folder.find_tensor(tensor.name));
    EXPECT_TRUE(std::equal(here.begin(), here.end(), there.begin(), there.end())) << tensor.name;
  }
  EXPECT_EQ(run.at("general.name").as_string(), "run");
  for (const auto& entry : fs::directory_iterator(folder.file("")))
    EXPECT_EQ(entry.path().string().find(".tmp."), std::string::npos) << entry.path();
}

TEST(ExportCommand, AnAdapterIsNoModel) {
  const testing::TemporaryFolder folder;
  train(folder, "[peft]\ntype = \"lora\"\n");
  const auto result = run_espalier(
      {"export", folder.file("run"), "--format", "gguf", "--output", folder.file("x.gguf")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("espalier adapter merge"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder.file("x.gguf")));
}

TEST(ExportCommand, WrongOptionsAreNamed) {
  const std::string model = fixture_path("models/llama");
  const testing::TemporaryFolder folder;
  const auto error_of = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"export", model, "--output", folder.file("x")});
    const auto result = run_espalier(words);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_NE(error_of({"--format", "ggml"}).find("hf or gguf"), std::string::npos);
  EXPECT_NE(error_of({"--format", "gguf", "--dtype", "q4_k"}).find("q8_0"), std::string::npos);
  EXPECT_NE(error_of({"--dtype", "f32"}).find("espalier convert"), std::string::npos);
}

TEST(ExportCommand, AGgufFileDoesNotReplaceAFolder) {
  const testing::TemporaryFolder folder;
  const auto result = run_espalier(
      {"export", fixture_path("models/llama"), "--format", "gguf", "--output", folder.file("")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("model.gguf"), std::string::npos) << result.err;
}

TEST(ConvertCommand, WritesAnotherTypeAndReportsIt) {
  const testing::TemporaryFolder folder;
  const auto result =
      run_espalier({"convert", fixture_path("models/qwen2"), "--output", folder.file("out"),
                    "--dtype", "f16", "--max-shard-size", "20KB", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const CheckpointReader written(folder.file("out"));
  EXPECT_EQ(parse_json(result.out).find("tensors")->as_int(), std::ssize(written.names()));
  EXPECT_EQ(written.at(written.names().front()).dtype, DType::kF16);
  EXPECT_TRUE(fs::exists(folder.file("out/model.safetensors.index.json")));
  const auto wrong = run_espalier({"convert", fixture_path("models/qwen2"), "--output",
                                   folder.file("x"), "--max-shard-size", "2"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_NE(wrong.err.find("2GB"), std::string::npos) << wrong.err;
}

}  // namespace
}  // namespace espalier
