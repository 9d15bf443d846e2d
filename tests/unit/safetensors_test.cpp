#include "espalier/base/safetensors.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "fixture_path.h"
#include "temporary_folder.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::TemporaryFolder;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::string problem_of(const std::string& path) {
  try {
    const SafetensorsFile file(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput) << path;
    return error.what();
  }
  return {};
}

/// A file with `header` and `data_bytes` zero bytes.
std::string write_raw(const std::string& path, std::string_view header, std::size_t data_bytes) {
  std::string content(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) content[i] = static_cast<char>(header.size() >> (8 * i));
  content += header;
  content.append(data_bytes, '\0');
  write_file_atomically(path, content);
  return path;
}

TEST(Safetensors, RefusesEveryBadFileOfTheCollection) {
  const Value cases = read_json_file(fixture_path("bad_safetensors/cases.json"));
  ASSERT_GE(cases.as_array().size(), 27U);
  for (const Value& bad : cases.as_array()) {
    const std::string& name = bad.find("file")->as_string();
    const std::string problem = problem_of(fixture_path("bad_safetensors/" + name));
    EXPECT_FALSE(problem.empty()) << name << ": " << bad.find("note")->as_string();
    EXPECT_NE(problem.find(name), std::string::npos) << "the message names no file: " << problem;
  }
}

TEST(Safetensors, SaysWhatIsWrong) {
  const auto problem = [](const char* name) {
    return problem_of(fixture_path(std::string("bad_safetensors/") + name + ".safetensors"));
  };
  EXPECT_NE(problem("hole").find("belong to no tensor"), std::string::npos);
  EXPECT_NE(problem("overlapping").find("overlap"), std::string::npos);
  EXPECT_NE(problem("trailing_bytes").find("after the data"), std::string::npos);
  EXPECT_NE(problem("truncated_data").find("ends before"), std::string::npos);
  EXPECT_NE(problem("duplicate_keys").find("appears twice"), std::string::npos);
  EXPECT_NE(problem("wrong_dtype").find("F33"), std::string::npos);
  EXPECT_NE(problem("shape_overflow").find("too large"), std::string::npos);
  EXPECT_NE(problem("size_mismatch").find("12 bytes"), std::string::npos);
}

TEST(Safetensors, AcceptsTheOddButValid) {
  const TemporaryFolder folder;
  const auto accepts = [&](std::string_view header, std::size_t data_bytes) {
    const std::string problem = problem_of(write_raw(folder / "x", header, data_bytes));
    EXPECT_EQ(problem, "") << header;
  };
  accepts("{}", 0);
  accepts("{}  \n", 0);
  accepts(R"({"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4);
  accepts(R"({"b":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},)"
          R"("a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
          0);
  accepts(R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})", 2);
  accepts(R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3);
  accepts(R"({"__metadata__":null,"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1);
}

TEST(Safetensors, RefusesElementsThatDoNotFillABytes) {
  const TemporaryFolder folder;
  const std::string path =
      write_raw(folder / "x", R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1);
  EXPECT_NE(problem_of(path).find("whole bytes"), std::string::npos);
}

TEST(Safetensors, RefusesAByteOrderMark) {
  const TemporaryFolder folder;
  EXPECT_NE(problem_of(write_raw(folder / "x", "\xEF\xBB\xBF{}", 0)), "");
}

class WrittenFile : public ::testing::Test {
 protected:
  WrittenFile() : path_(folder_ / "a.safetensors") {
    std::iota(floats_.begin(), floats_.end(), 0.0F);
    std::iota(longs_.begin(), longs_.end(), 100);
    write_safetensors(path_,
                      {{"small", DType::kU8, {3}, bytes_of(bytes_)},
                       {"w", DType::kF32, {2, 3, 4}, bytes_of(floats_)},
                       {"b", DType::kF32, {1, 4}, bytes_of(floats_).first(16)},
                       {"long \"é\"", DType::kI64, {2}, bytes_of(longs_)},
                       {"none", DType::kBF16, {0, 5}, {}}},
                      {{"format", "pt"}, {"note", "a\nb"}});
  }

  TemporaryFolder folder_;
  std::string path_;
  std::vector<float> floats_ = std::vector<float>(24);
  std::vector<std::int64_t> longs_ = std::vector<std::int64_t>(2);
  std::vector<std::uint8_t> bytes_ = {1, 2, 3};
};

TEST_F(WrittenFile, ReadsBackInCanonicalOrder) {
  const SafetensorsFile file(path_);
  std::string order;
  for (const TensorInfo& tensor : file.tensors()) order += tensor.name + ",";
  EXPECT_EQ(order, "long \"é\",b,w,none,small,");
  EXPECT_EQ(file.metadata(), (TensorMetadata{{"format", "pt"}, {"note", "a\nb"}}));
  EXPECT_EQ(file.at("w").shape, (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_EQ(file.at("none").size_bytes(), 0U);
  const auto data = file.data("w");
  EXPECT_TRUE(std::equal(data.begin(), data.end(), bytes_of(floats_).begin()));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.data("long \"é\"").data()) % 8, 0U);
}

TEST_F(WrittenFile, HasTheBytesOfTheReferenceSerializer) {
  const std::string content = read_file(path_);
  const std::string header = R"({"__metadata__":{"format":"pt","note":"a\nb"},)"
                             R"("long \"é\"":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},)"
                             R"("b":{"dtype":"F32","shape":[1,4],"data_offsets":[16,32]},)"
                             R"("w":{"dtype":"F32","shape":[2,3,4],"data_offsets":[32,128]},)"
                             R"("none":{"dtype":"BF16","shape":[0,5],"data_offsets":[128,128]},)"
                             R"("small":{"dtype":"U8","shape":[3],"data_offsets":[128,131]}})";
  EXPECT_EQ(content.substr(8, header.size()), header);
  EXPECT_EQ(static_cast<unsigned char>(content[0]) % 8, 0);
}

TEST_F(WrittenFile, RefusesEveryTruncation) {
  const std::string content = read_file(path_);
  for (std::size_t size = 0; size < content.size(); ++size) {
    testing::write_fresh(folder_ / "cut", content.substr(0, size));
    ASSERT_NE(problem_of(folder_ / "cut"), "") << size;
  }
}

TEST_F(WrittenFile, ReadsOnlyTheBytesOfASlice) {
  const SafetensorsFile file(path_);
  const auto slice = [&](std::vector<DimensionRange> ranges, std::size_t count) {
    std::vector<float> out(count);
    const std::uint64_t before = file.bytes_requested();
    file.read_slice("w", ranges, std::as_writable_bytes(std::span(out)));
    EXPECT_EQ(file.bytes_requested() - before, count * sizeof(float));
    return out;
  };
  EXPECT_EQ(slice({{0, 2}, {0, 3}, {0, 4}}, 24), floats_);
  EXPECT_EQ(slice({{1, 2}, {1, 3}, {0, 4}}, 8),
            (std::vector<float>{16, 17, 18, 19, 20, 21, 22, 23}));
  EXPECT_EQ(slice({{0, 2}, {1, 2}, {1, 3}}, 4), (std::vector<float>{5, 6, 17, 18}));
  EXPECT_EQ(slice({{0, 2}, {1, 1}, {0, 4}}, 0), std::vector<float>{});
  std::vector<float> two(2);
  file.read_bytes("w", 8, std::as_writable_bytes(std::span(two)));
  EXPECT_EQ(two, (std::vector<float>{2, 3}));
  EXPECT_EQ(file.bytes_requested(), (24 + 8 + 4 + 2) * sizeof(float));
}

TEST_F(WrittenFile, SuggestsTheNearestName) {
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.find("smal"), nullptr);
  try {
    file.at("smal");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'small'"), std::string::npos);
  }
}

TEST(SafetensorsWriter, StreamsPiecesAndLeavesNothingBehindWhenTheyDoNotFit) {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> piece = {7, 8};
  const auto write = [&](int pieces) {
    write_safetensors(
        folder / "x",
        {{.name = "a", .dtype = DType::kU8, .shape = {4}, .write = [&](const TensorSink& sink) {
            for (int i = 0; i < pieces; ++i) sink(bytes_of(piece));
          }}});
  };
  EXPECT_THROW(write(1), Error);
  EXPECT_THROW(write(3), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  write(2);
  EXPECT_EQ(SafetensorsFile(folder / "x").data("a")[3], std::byte{8});
}

TEST(SafetensorsWriter, RefusesRepeatedAndUnwritableNames) {
  const TemporaryFolder folder;
  const TensorSource a = {"a", DType::kU8, {0}, {}};
  EXPECT_THROW(write_safetensors(folder / "x", {a, a}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"\xFF", DType::kU8, {0}, {}}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"__metadata__", DType::kU8, {0}, {}}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"n", DType::kU8, {-1}, {}}}), Error);
  EXPECT_THROW(write_safetensors(folder / "no/such/folder/x", {a}), Error);
}

TEST(DTypes, NamesGoBothWays) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
    EXPECT_EQ(dtype_from_config_name(dtype_config_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_from_config_name("torch.bfloat16"), DType::kBF16);
  EXPECT_EQ(dtype_from_config_name("bf16"), std::nullopt);
}

}  // namespace
}  // namespace espalier
