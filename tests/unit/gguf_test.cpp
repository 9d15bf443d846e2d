#include "espalier/base/gguf.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/gguf_dequantize.h"
#include "espalier/base/half_precision.h"
#include "espalier/base/safetensors.h"
#include "fixture_path.h"
#include "gguf_builder.h"
#include "temporary_folder.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::GgufBuilder;
using testing::TemporaryFolder;

std::string problem_of(const TemporaryFolder& folder, const std::string& content) {
  testing::write_fresh(folder / "x.gguf", content);
  try {
    const GgufFile file(folder / "x.gguf");
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
    return error.what();
  }
  return {};
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  const TemporaryFolder folder;
  GgufBuilder builder;
  builder.number<std::uint8_t>("u8", GgufType::kU8, 200)
      .number<std::int8_t>("i8", GgufType::kI8, -3)
      .number<std::uint16_t>("u16", GgufType::kU16, 60000)
      .number<std::int16_t>("i16", GgufType::kI16, -300)
      .number<std::uint32_t>("u32", GgufType::kU32, 4000000000U)
      .number<std::int32_t>("i32", GgufType::kI32, -70000)
      .number<float>("f32", GgufType::kF32, 0.5F)
      .number<std::uint8_t>("bool", GgufType::kBool, 1)
      .text("text", "é\n")
      .number<std::uint64_t>("u64", GgufType::kU64, 1ULL << 40)
      .number<std::int64_t>("i64", GgufType::kI64, -(1LL << 40))
      .number<double>("f64", GgufType::kF64, 0.1)
      .number<std::uint64_t>("huge", GgufType::kU64, ~0ULL)
      .texts("texts", {"a", "", "c"})
      .numbers<std::int32_t>("numbers", GgufType::kI32, {1, -2, 3})
      .numbers<float>("floats", GgufType::kF32, {1.5F})
      .numbers<std::uint8_t>("none", GgufType::kU8, {});
  write_file_atomically(folder / "x", builder.build());
  const GgufFile file(folder / "x");
  EXPECT_EQ(file.metadata().size(), 17U);
  EXPECT_EQ(file.at("u8").as_int(), 200);
  EXPECT_EQ(file.at("i8").as_int(), -3);
  EXPECT_EQ(file.at("u16").as_int(), 60000);
  EXPECT_EQ(file.at("i16").as_int(), -300);
  EXPECT_EQ(file.at("u32").as_int(), 4000000000);
  EXPECT_EQ(file.at("i32").as_float(), -70000.0);
  EXPECT_EQ(file.at("f32").as_float(), 0.5);
  EXPECT_TRUE(file.at("bool").as_bool());
  EXPECT_EQ(file.at("text").as_string(), "é\n");
  EXPECT_EQ(file.at("u64").as_int(), 1LL << 40);
  EXPECT_EQ(file.at("i64").as_int(), -(1LL << 40));
  EXPECT_EQ(file.at("f64").as_float(), 0.1);
  EXPECT_EQ(file.at("texts").as_strings(), (std::vector<std::string_view>{"a", "", "c"}));
  EXPECT_EQ(file.at("numbers").as_ints(), (std::vector<std::int64_t>{1, -2, 3}));
  EXPECT_EQ(file.at("floats").as_floats(), std::vector<double>{1.5});
  EXPECT_TRUE(file.at("none").as_ints().empty());
  EXPECT_THROW(file.at("huge").as_int(), Error);
  EXPECT_THROW(file.at("text").as_int(), Error);
  EXPECT_THROW(file.at("texts").as_ints(), Error);
  EXPECT_THROW(file.at("u8").as_bool(), Error);
  EXPECT_THROW(file.at("missing"), Error);
}

TEST(Gguf, ReadsVersion2AndOtherAlignments) {
  const TemporaryFolder folder;
  GgufBuilder builder;
  builder.version(2).alignment(64);
  builder.tensor("a", GgmlType::kF32, {3}, std::string(12, '\1'));
  builder.tensor("b", GgmlType::kF32, {2, 2}, std::string(16, '\2'));
  write_file_atomically(folder / "x", builder.build());
  const GgufFile file(folder / "x");
  EXPECT_EQ(file.version(), 2U);
  EXPECT_EQ(file.alignment(), 64U);
  EXPECT_EQ(file.find_tensor("b")->begin % 64, 0U);
  EXPECT_EQ(file.data(*file.find_tensor("b"))[15], std::byte{2});
  EXPECT_EQ(file.find_tensor("c"), nullptr);
}

TEST(Gguf, RefusesDamagedHeads) {
  const TemporaryFolder folder;
  const auto refuses = [&](const GgufBuilder& builder, std::string_view text) {
    const std::string problem = problem_of(folder, builder.build());
    EXPECT_NE(problem.find(text), std::string::npos) << "expected: " << text << "\n" << problem;
  };
  refuses(GgufBuilder().version(1), "another version");
  refuses(GgufBuilder().version(0x03000000), "big endian");
  refuses(GgufBuilder().text("a", "x").text("a", "y"), "'a' appears twice");
  refuses(GgufBuilder().number<std::uint32_t>("a", static_cast<GgufType>(13), 1), "unknown type");
  refuses(GgufBuilder().number<std::uint32_t>("general.alignment", GgufType::kU32, 24),
          "power of two");
  refuses(GgufBuilder().number<std::uint32_t>("general.alignment", GgufType::kU32, 0),
          "power of two");
  refuses(GgufBuilder().text("general.alignment", "32"), "wrong type");
  const std::string four(16, '\0');
  refuses(
      GgufBuilder().tensor("a", GgmlType::kF32, {4}, four).tensor("a", GgmlType::kF32, {4}, four),
      "'a' appears twice");
  refuses(GgufBuilder().tensor("a", GgmlType::kF32, {8}, four), "passes the end");
  refuses(GgufBuilder().tensor("a", static_cast<GgmlType>(4), {4}, four), "unknown type");
  refuses(GgufBuilder().tensor("a", GgmlType::kQ4Type0, {16}, four), "whole blocks");
  refuses(GgufBuilder().tensor("a", GgmlType::kF32, {1, 1, 1, 1, 4}, four), "too many dimensions");
  refuses(GgufBuilder().tensor("a", GgmlType::kF32, {INT64_MAX, 4}, four), "impossible size");
  refuses(GgufBuilder().tensor("a", GgmlType::kF32, {0}, four), "impossible size");
  refuses(GgufBuilder().tensor("a", GgmlType::kF32, {4}, four, 4), "not aligned");
  refuses(GgufBuilder()
              .tensor("a", GgmlType::kF32, {16}, std::string(64, '\0'))
              .tensor("b", GgmlType::kF32, {4}, four, 32),
          "overlap");
}

TEST(Gguf, RefusesCountsBeyondTheFile) {
  const TemporaryFolder folder;
  const std::string good = GgufBuilder().texts("list", {"a", "b"}).build();
  for (const std::size_t position : {8U, 16U, 24U, 44U}) {  // tensors, entries, key, array items
    std::string bad = good;
    for (const std::uint64_t count : {std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
      std::memcpy(bad.data() + position, &count, sizeof count);
      EXPECT_NE(problem_of(folder, bad), "") << position;
    }
  }
}

TEST(Gguf, RefusesEveryTruncation) {
  const TemporaryFolder folder;
  GgufBuilder builder;
  builder.texts("list", {"a", "b"}).number<float>("f", GgufType::kF32, 1.0F);
  builder.tensor("a", GgmlType::kF32, {4}, std::string(16, '\1'));
  const std::string good = builder.build();
  EXPECT_EQ(problem_of(folder, good), "");
  for (std::size_t size = 0; size < good.size(); ++size)
    ASSERT_NE(problem_of(folder, good.substr(0, size)), "") << size;
}

std::vector<float> floats_of(const SafetensorsFile& file, const std::string& name) {
  const auto data = file.data(name);
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), data.size());
  return values;
}

/// Bit by bit, except that any NaN equals any NaN.
void expect_identical(const std::vector<float>& found, const std::vector<float>& expected,
                      const std::string& name) {
  ASSERT_EQ(found.size(), expected.size()) << name;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i]) && std::isnan(expected[i])) continue;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]), std::bit_cast<std::uint32_t>(expected[i]))
        << name << " element " << i << ": " << found[i] << " instead of " << expected[i];
  }
}

TEST(GgufDequantize, IsExactOnRandomBlocksOfEveryType) {
  const SafetensorsFile golden(fixture_path("gguf/blocks.safetensors"));
  int types = 0;
  for (std::uint32_t number = 0; number < 64; ++number) {
    const GgmlTypeInfo* info = find_ggml_type(number);
    if (info == nullptr || !can_dequantize(info->type)) continue;
    const std::string name(info->name);
    if (golden.find(name + ".blocks") == nullptr) continue;
    const auto expected = floats_of(golden, name + ".expected");
    std::vector<float> found(expected.size());
    dequantize(info->type, golden.data(name + ".blocks"), found);
    expect_identical(found, expected, name);
    ++types;
  }
  EXPECT_EQ(types, 17) << "all but F32, F64 and Q8_K, which the reference leaves out";
}

TEST(GgufDequantize, ReadsPlainAndQ8KBlocks) {
  std::string blocks(292, '\0');
  const float scale = 0.5F;
  std::memcpy(blocks.data(), &scale, sizeof scale);
  blocks[4 + 255] = static_cast<char>(-128);
  std::vector<float> out(256);
  dequantize(GgmlType::kQ8K, std::as_bytes(std::span(blocks)), out);
  EXPECT_EQ(out[255], -64.0F);
  EXPECT_EQ(out[0], 0.0F);
  const double wide = 0.1;
  float narrow = 0;
  dequantize(GgmlType::kF64, std::as_bytes(std::span(&wide, 1)), std::span(&narrow, 1));
  EXPECT_EQ(narrow, 0.1F);
  dequantize(GgmlType::kF32, std::as_bytes(std::span(&scale, 1)), std::span(&narrow, 1));
  EXPECT_EQ(narrow, 0.5F);
}

TEST(GgufDequantize, NamesATypeItCanNotRead) {
  std::string blocks(66, '\0');
  std::vector<float> out(256);
  EXPECT_FALSE(can_dequantize(GgmlType::kIQ2XXS));
  try {
    dequantize(GgmlType::kIQ2XXS, std::as_bytes(std::span(blocks)), out);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("IQ2_XXS"), std::string::npos);
  }
}

TEST(GgufDequantize, IsExactOnAWholeFile) {
  for (const std::string name : {"llama_q4_1", "llama_q5_mix"}) {
    const GgufFile file(fixture_path("gguf/" + name + ".gguf"));
    const SafetensorsFile golden(fixture_path("gguf/" + name + ".expected.safetensors"));
    int compared = 0;
    for (const GgufTensor& tensor : file.tensors()) {
      if (golden.find("gguf." + tensor.name) == nullptr) continue;
      std::vector<float> found(static_cast<std::size_t>(tensor.element_count()));
      dequantize(tensor.type, file.data(tensor), found);
      expect_identical(found, floats_of(golden, "gguf." + tensor.name), tensor.name);
      ++compared;
    }
    EXPECT_EQ(compared, 4) << "q and k of two layers";
  }
}

TEST(HalfPrecision, RoundTripsEveryValue) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto value = static_cast<std::uint16_t>(bits);
    if ((bits & 0x7FFFU) <= 0x7C00U) {
      ASSERT_EQ(float_to_half(half_to_float(value)), value);
    }
    if ((bits & 0x7FFFU) <= 0x7F80U) {
      ASSERT_EQ(float_to_bfloat16(bfloat16_to_float(value)), value);
    }
  }
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(NAN))));
  EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(NAN))));
}

TEST(HalfPrecision, RoundsToNearestEven) {
  EXPECT_EQ(float_to_half(1.0F + 0x1p-11F), 0x3C00);  // a tie goes to even
  EXPECT_EQ(float_to_half(1.0F + 0x3p-11F), 0x3C02);
  EXPECT_EQ(float_to_half(65519.0F), 0x7BFF);
  EXPECT_EQ(float_to_half(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_half(-0x1p-24F), 0x8001);
  EXPECT_EQ(float_to_half(0x1p-25F), 0x0000);  // a tie between 0 and the least
  EXPECT_EQ(float_to_half(0x3p-26F), 0x0001);
  EXPECT_EQ(float_to_half(0x1.FFFp-15F), 0x0400);
  EXPECT_EQ(float_to_bfloat16(1.0F + 0x1p-8F), 0x3F80);
  EXPECT_EQ(float_to_bfloat16(1.0F + 0x3p-8F), 0x3F82);
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24F);
  EXPECT_EQ(half_to_float(0xFBFF), -65504.0F);
  EXPECT_TRUE(std::isinf(half_to_float(0x7C00)));
}

}  // namespace
}  // namespace espalier
