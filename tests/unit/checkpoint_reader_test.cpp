#include "espalier/base/checkpoint_reader.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "temporary_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

/// Four float tensors of 40, 40, 40 and 400 bytes in shards of at most 100 bytes.
class ShardedCheckpoint : public ::testing::Test {
 protected:
  ShardedCheckpoint() {
    std::iota(values_.begin(), values_.end(), 0.0F);
    written_ = write(100);
  }

  std::vector<std::string> write(std::uint64_t max_shard_bytes) {
    const auto data = std::as_bytes(std::span(values_));
    return write_safetensors_sharded(folder_.path(),
                                     {{"a", DType::kF32, {10}, data.first(40)},
                                      {"b", DType::kF32, {10}, data.subspan(40, 40)},
                                      {"c", DType::kF32, {2, 5}, data.subspan(80, 40)},
                                      {"d", DType::kF32, {100}, data.first(400)}},
                                     {{"format", "pt"}}, {.max_shard_bytes = max_shard_bytes});
  }

  void edit_index(const std::string& tensor, const Value& file) {
    Value index = read_json_file(index_path());
    index.as_table().find("weight_map")->as_table().set(tensor, file);
    write_file_atomically(index_path(), dump_json(index));
  }

  std::string index_path() const { return folder_ / "model.safetensors.index.json"; }

  std::string problem_of_verify() const {
    try {
      CheckpointReader(folder_.path()).verify();
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  testing::TemporaryFolder folder_;
  std::vector<float> values_ = std::vector<float>(100);
  std::vector<std::string> written_;
};

TEST_F(ShardedCheckpoint, HasTheLayoutOfTransformers) {
  EXPECT_EQ(written_, (std::vector<std::string>{
                          "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  const Value index = read_json_file(index_path());
  EXPECT_EQ(index.find_path("metadata.total_size")->as_int(), 520);
  EXPECT_EQ(index.find_path("weight_map.c")->as_string(), "model-00002-of-00003.safetensors");
}

TEST_F(ShardedCheckpoint, FindsTensorsOverShards) {
  const CheckpointReader reader(folder_.path());
  EXPECT_EQ(reader.names(), (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_TRUE(reader.contains("d"));
  EXPECT_FALSE(reader.contains("e"));
  EXPECT_EQ(reader.bytes_requested(), 0U);
  float value = 0;
  reader.file_of("c").read_bytes("c", 8, std::as_writable_bytes(std::span(&value, 1)));
  EXPECT_EQ(value, 22.0F);
  EXPECT_EQ(reader.data("a").size(), 40U);
  EXPECT_EQ(reader.bytes_requested(), 44U);
  EXPECT_EQ(CheckpointReader(index_path()).at("c").shape, (std::vector<std::int64_t>{2, 5}));
  EXPECT_THROW(reader.at("e"), Error);
}

TEST_F(ShardedCheckpoint, OpensShardsOnlyWhenNeeded) {
  write_file_atomically(folder_ / written_[2], "damaged");
  const CheckpointReader reader(folder_.path());
  EXPECT_EQ(reader.at("a").size_bytes(), 40U);
  EXPECT_THROW(reader.at("d"), Error);
  EXPECT_THROW(reader.at("d"), Error) << "the second time too";
}

TEST_F(ShardedCheckpoint, ANewSaveRemovesTheOldOne) {
  EXPECT_EQ(write(1000), std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()), 1);
  EXPECT_EQ(CheckpointReader(folder_.path()).names().size(), 4U);
  write(200);
  EXPECT_FALSE(fs::exists(folder_ / "model.safetensors"));
  EXPECT_EQ(problem_of_verify(), "");
}

TEST_F(ShardedCheckpoint, NamesEveryMissingShard) {
  fs::remove(folder_ / written_[0]);
  fs::remove(folder_ / written_[2]);
  const std::string problem = problem_of_verify();
  EXPECT_NE(problem.find(written_[0]), std::string::npos) << problem;
  EXPECT_NE(problem.find(written_[2]), std::string::npos) << problem;
}

TEST_F(ShardedCheckpoint, RefusesATensorThatIsNotWhereTheIndexSays) {
  edit_index("x", written_[0]);
  EXPECT_NE(problem_of_verify().find("'x' is in a file where it is not"), std::string::npos);
  EXPECT_THROW(CheckpointReader(folder_.path()).at("x"), Error);
}

TEST_F(ShardedCheckpoint, RefusesATensorInTwoShards) {
  const auto data = std::as_bytes(std::span(values_));
  write_safetensors(folder_ / written_[1], {{"c", DType::kF32, {2, 5}, data.first(40)},
                                            {"a", DType::kF32, {10}, data.first(40)}});
  EXPECT_NE(problem_of_verify().find("'a' is in two shards"), std::string::npos);
}

TEST_F(ShardedCheckpoint, RefusesATensorThatTheIndexDoesNotKnow) {
  const auto data = std::as_bytes(std::span(values_));
  write_safetensors(folder_ / written_[1], {{"c", DType::kF32, {2, 5}, data.first(40)},
                                            {"new", DType::kF32, {10}, data.first(40)}});
  EXPECT_NE(problem_of_verify().find("'new' is in a shard but not in the index"),
            std::string::npos);
}

TEST_F(ShardedCheckpoint, RefusesShardsOutsideOfTheFolder) {
  edit_index("a", "../model-00001-of-00003.safetensors");
  edit_index("b", "/etc/passwd");
  edit_index("c", 3);
  const std::string problem = problem_of_verify();
  for (const char* name : {"'a'", "'b'", "'c'"})
    EXPECT_NE(problem.find(name), std::string::npos) << problem;
}

TEST(CheckpointReader, SaysWhenThereAreNoWeights) {
  const testing::TemporaryFolder folder;
  EXPECT_FALSE(CheckpointReader::has_weights(folder.path()));
  EXPECT_THROW(CheckpointReader(folder.path()), Error);
  write_file_atomically(folder / "model.safetensors.index.json", R"({"weight_map": []})");
  EXPECT_THROW(CheckpointReader(folder.path()), Error);
}

}  // namespace
}  // namespace espalier
