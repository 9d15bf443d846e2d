#include "formats/folder_conversion.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/half_precision.h"
#include "espalier/base/json.h"
#include "fixture_path.h"
#include "temporary_folder.h"

namespace espalier::formats {
namespace {

namespace fs = std::filesystem;
using espalier::testing::fixture_path;
using espalier::testing::TemporaryFolder;

template <class Number>
std::vector<Number> numbers_of(const CheckpointReader& checkpoint, const std::string& name) {
  const auto data = checkpoint.data(name);
  std::vector<Number> values(data.size() / sizeof(Number));
  if (!values.empty()) std::memcpy(values.data(), data.data(), data.size());
  return values;
}

std::string problem_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(FolderConversion, WeightsAreRoundedAndSplitAndTheRestStays) {
  const std::string source = fixture_path("models/qwen2");
  const TemporaryFolder out;
  const FolderConversionReport report =
      convert_folder(source, out / "bf16", {.dtype = DType::kBF16, .max_shard_bytes = 20'000});
  EXPECT_TRUE(fs::exists(out / "bf16/model.safetensors.index.json"));
  EXPECT_TRUE(fs::exists(out / "bf16/model-00001-of-00003.safetensors") ||
              fs::exists(out / "bf16/model-00002-of-00002.safetensors"))
      << report.files.size();
  const CheckpointReader before(source);
  const CheckpointReader after(out / "bf16");
  ASSERT_EQ(before.names(), after.names());
  for (const std::string& name : before.names()) {
    const auto values = numbers_of<float>(before, name);
    const auto converted = numbers_of<std::uint16_t>(after, name);
    ASSERT_EQ(after.at(name).dtype, DType::kBF16);
    ASSERT_EQ(values.size(), converted.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(converted[i], float_to_bfloat16(values[i])) << name << " " << i;
  }
  EXPECT_EQ(read_json_file(out / "bf16/config.json").find("torch_dtype")->as_string(), "bfloat16");
  EXPECT_EQ(read_file(out / "bf16/generation_config.json"),
            read_file(source + "/generation_config.json"));
}

TEST(FolderConversion, WithoutATypeTheBytesAreTheSame) {
  const std::string source = fixture_path("models/llama/sharded");
  const TemporaryFolder out;
  fs::copy(source, out / "in");
  if (!fs::exists(out / "in/config.json"))
    fs::copy(fixture_path("models/llama/config.json"), out / "in/config.json");
  convert_folder(out / "in", out / "one", {});
  EXPECT_TRUE(fs::exists(out / "one/model.safetensors"));
  EXPECT_FALSE(fs::exists(out / "one/model.safetensors.index.json"));
  const CheckpointReader before(out / "in");
  const CheckpointReader after(out / "one");
  ASSERT_EQ(before.names(), after.names());
  for (const std::string& name : before.names())
    EXPECT_EQ(numbers_of<std::byte>(before, name), numbers_of<std::byte>(after, name)) << name;
  EXPECT_EQ(read_file(out / "in/config.json"), read_file(out / "one/config.json"));
}

TEST(FolderConversion, TorchFilesBecomeSafetensorsAndTiesAreLeftOutOnce) {
  const TemporaryFolder out;
  fs::create_directory(out / "in");
  fs::copy(fixture_path("state_dict/pytorch_model.bin"), out / "in/pytorch_model.bin");
  write_file_atomically(out / "in/config.json", R"({"architectures": ["X"]})");
  write_file_atomically(out / "in/notes.bin", "kept");
  const FolderConversionReport report = convert_folder(out / "in", out / "out", {});
  EXPECT_FALSE(fs::exists(out / "out/pytorch_model.bin"));
  EXPECT_EQ(read_file(out / "out/notes.bin"), "kept");
  const CheckpointReader before(out / "in");
  const CheckpointReader after(out / "out");
  EXPECT_EQ(after.names().size() + report.tied.size(), before.names().size());
  for (const std::string& name : after.names())
    EXPECT_EQ(numbers_of<std::byte>(before, name), numbers_of<std::byte>(after, name)) << name;
  // A model that says that it ties nothing keeps both.
  write_file_atomically(out / "in/config.json", R"({"tie_word_embeddings": false})");
  convert_folder(out / "in", out / "untied", {});
  EXPECT_EQ(CheckpointReader(out / "untied").names(), before.names());
}

TEST(FolderConversion, MistakesAreSaidBeforeAnythingIsWritten) {
  const std::string source = fixture_path("models/llama");
  const TemporaryFolder out;
  fs::copy(source, out / "in", fs::copy_options::recursive);
  EXPECT_NE(problem_of([&] { convert_folder(out / "in", out / "in/bf16", {}); }).find("lies in it"),
            std::string::npos);
  fs::create_directory(out / "full");
  write_file_atomically(out / "full/x", "x");
  EXPECT_NE(problem_of([&] { convert_folder(source, out / "full", {}); }).find("not empty"),
            std::string::npos);
  Value config = read_json_file(out / "in/config.json");
  config.as_table().set("quantization_config", Table());
  write_file_atomically(out / "in/config.json", dump_json(config));
  EXPECT_NE(problem_of([&] {
              convert_folder(out / "in", out / "x", {.dtype = DType::kF16});
            }).find("quantised"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(out / "x"));
}

}  // namespace
}  // namespace espalier::formats
