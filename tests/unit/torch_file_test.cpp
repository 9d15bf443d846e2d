// Files of torch.save: good ones are equal to what torch reads, hostile ones are refused and
// nothing of them runs.
#include "espalier/base/torch_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/pickle.h"
#include "espalier/base/safetensors.h"
#include "fixture_path.h"
#include "temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::fixture_path;

std::string problem_of(const std::string& path) {
  try {
    const TorchFile file(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    return error.what();
  }
  return {};
}

class GoodFile : public ::testing::TestWithParam<const char*> {};

TEST_P(GoodFile, HasTheTensorsThatTorchReads) {
  const TorchFile file(fixture_path(std::string("state_dict/") + GetParam()));
  const SafetensorsFile expected(fixture_path("state_dict/expected.safetensors"));
  const Value layouts = read_json_file(fixture_path("state_dict/expected_strides.json"));
  ASSERT_EQ(file.tensors().size(), expected.tensors().size());
  for (const TensorInfo& want : expected.tensors()) {
    SCOPED_TRACE(want.name);
    const TensorInfo& found = file.at(want.name);
    EXPECT_EQ(found.dtype, want.dtype);
    EXPECT_EQ(found.shape, want.shape);
    const auto wanted = expected.data(want.name);
    const auto mapped = file.data(want.name);
    EXPECT_TRUE(std::equal(mapped.begin(), mapped.end(), wanted.begin(), wanted.end()));
    std::vector<std::byte> read(wanted.size());
    file.read_bytes(want.name, 0, read);
    EXPECT_TRUE(std::equal(read.begin(), read.end(), wanted.begin(), wanted.end()));
    const Array& strides = layouts.find(want.name)->find("stride")->as_array();
    ASSERT_EQ(file.layout(want.name).strides.size(), strides.size());
    for (std::size_t d = 0; d < strides.size(); ++d)
      EXPECT_EQ(file.layout(want.name).strides[d], strides[d].as_int());
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GoodFile,
                         ::testing::Values("pytorch_model.bin", "pytorch_model_legacy.bin"),
                         [](const auto& info) {
                           return std::string(info.param).find("legacy") == std::string::npos
                                      ? "Zip"
                                      : "Older";
                         });

TEST(TorchFile, ReadsASliceOfATransposedTensor) {
  const TorchFile file(fixture_path("state_dict/pytorch_model.bin"));
  const SafetensorsFile expected(fixture_path("state_dict/expected.safetensors"));
  const std::vector<DimensionRange> ranges = {{2, 5}, {1, 4}};
  std::vector<std::byte> found(9 * sizeof(float));
  std::vector<std::byte> wanted(found.size());
  file.read_slice("transposed", ranges, found);
  expected.read_slice("transposed", ranges, wanted);
  EXPECT_EQ(found, wanted);
}

TEST(TorchFile, FindsTheModelInACheckpointOfATrainingProgram) {
  const TorchFile file(fixture_path("state_dict/nested.bin"));
  std::vector<std::string> names;
  for (const TensorInfo& tensor : file.tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"plain.weight", "bf16", "fp16"}));
  const SafetensorsFile expected(fixture_path("state_dict/expected.safetensors"));
  const auto wanted = expected.data("fp16");
  const auto found = file.data("fp16");
  EXPECT_TRUE(std::equal(found.begin(), found.end(), wanted.begin(), wanted.end()));
}

TEST(TorchFile, RefusesEveryHostileFileAndRunsNothing) {
  const testing::TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  const Value cases = read_json_file(fixture_path("state_dict/hostile/cases.json"));
  int refused = 0;
  for (const auto& [name, note] : cases.as_table()) {
    SCOPED_TRACE(name + ": " + note.as_string());
    EXPECT_NE(problem_of(fixture_path("state_dict/hostile/" + name)), "");
    ++refused;
  }
  EXPECT_EQ(refused, 12);
  EXPECT_TRUE(fs::is_empty(folder.path()));
  fs::current_path(before);
}

TEST(TorchFile, NamesTheCodeThatAFileAsksFor) {
  const std::string folder = fixture_path("state_dict/hostile/");
  EXPECT_NE(problem_of(folder + "os_system.bin").find("posix.system"), std::string::npos);
  EXPECT_NE(problem_of(folder + "eval.bin").find("__builtin__.eval"), std::string::npos);
  EXPECT_NE(problem_of(folder + "subprocess.bin").find("commands.Popen"), std::string::npos);
}

TEST(TorchFile, EveryCutAndEveryFlippedByteIsAnErrorOrReadable) {
  const testing::TemporaryFolder folder;
  for (const char* name : {"nested.bin", "pytorch_model_legacy.bin"}) {
    const std::string good = read_file(fixture_path(std::string("state_dict/") + name));
    const std::string path = folder / "damaged.bin";
    const auto open = [&](const std::string& content) {
      std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
      try {
        const TorchFile file(path);
        for (const TensorInfo& tensor : file.tensors()) {
          if (tensor.size_bytes() < (1U << 20)) static_cast<void>(file.data(tensor.name));
        }
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kBadInput) << error.what();
      }
    };
    for (std::size_t size = 0; size < good.size(); size += 97) open(good.substr(0, size));
    for (std::size_t i = 0; i < good.size(); i += 13) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
      open(changed);
    }
  }
}

TEST(PickleReader, BoundsWhatAPickleMayHold) {
  const auto problem = [](std::string_view text) -> std::string {
    PickleReader reader(std::as_bytes(std::span(text)), {}, "test");
    try {
      reader.read();
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_EQ(problem("\x80\x02}q\x01."), "");
  EXPECT_EQ(problem("\x80\x02]q\x01h\x01\x61."), "") << "a list may hold itself";
  EXPECT_NE(problem("\x80\x02X\xff\xff\xff\x7fx."), "") << "a text longer than the file";
  EXPECT_NE(problem("\x80\x02h\x05."), "") << "a value that was never kept";
  EXPECT_NE(problem("\x80\x02t."), "") << "a tuple without its beginning";
  EXPECT_NE(problem("\x80\x02(\x85."), "") << "a mark is no value";
  EXPECT_NE(problem("\x80\x02"
                    "cos\nsystem\n."),
            "");
  EXPECT_NE(problem("\x80\x02i."), "") << "an operation that makes objects";
  EXPECT_NE(problem("\x80\x09}."), "") << "a protocol of the future";
}

TEST(CheckpointReader, ReadsFoldersOfTorchFiles) {
  const testing::TemporaryFolder folder;
  const std::string good = read_file(fixture_path("state_dict/pytorch_model.bin"));
  write_file_atomically(folder / "pytorch_model-00001-of-00001.bin", good);
  Table map;
  const TorchFile file(fixture_path("state_dict/pytorch_model.bin"));
  for (const TensorInfo& tensor : file.tensors())
    map.set(tensor.name, "pytorch_model-00001-of-00001.bin");
  Table index;
  index.set("weight_map", std::move(map));
  write_file_atomically(folder / "pytorch_model.bin.index.json", dump_json(Value(index)));
  EXPECT_TRUE(CheckpointReader::has_weights(folder.path()));
  CheckpointReader(folder.path()).verify();
  write_file_atomically(folder / "pytorch_model.bin", good);
  const CheckpointReader reader(folder.path());
  EXPECT_TRUE(reader.path().ends_with("/pytorch_model.bin"));
  EXPECT_EQ(reader.at("strided").shape, (std::vector<std::int64_t>{3, 3}));
}

}  // namespace
}  // namespace espalier
