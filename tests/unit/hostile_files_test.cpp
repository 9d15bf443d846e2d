// Random damage to good files: whatever the bytes are, the parsers answer with a result or an
// Error. Meant for the sanitizer builds above all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "espalier/base/error.h"
#include "espalier/base/gguf.h"
#include "espalier/base/gguf_dequantize.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors.h"
#include "espalier/base/safetensors_writer.h"
#include "fixture_path.h"
#include "formats/gguf_decoder.h"
#include "formats/gguf_tokenizer.h"
#include "gguf_builder.h"
#include "temporary_folder.h"

namespace espalier {
namespace {

using testing::GgufBuilder;
using testing::TemporaryFolder;
using testing::write_fresh;

constexpr int kMutations = 10000;

/// Changes a few places: bits, interesting numbers of 1 to 8 bytes, copies, cuts and insertions.
class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string operator()(std::string content) {
    for (std::size_t edits = 1 + below(4); edits > 0 && !content.empty(); --edits) edit(content);
    return content;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void edit(std::string& content) {
    const std::size_t place = below(content.size());
    switch (below(6)) {
      case 0: content[place] = static_cast<char>(content[place] ^ (1 << below(8))); break;
      case 1: content[place] = static_cast<char>(below(256)); break;
      case 2: write_number(content, place); break;
      case 3: content.resize(place); break;
      case 4: content.insert(place, content.substr(below(content.size()), below(32))); break;
      case 5: content.erase(place, 1 + below(16)); break;
    }
  }

  void write_number(std::string& content, std::size_t place) {
    static constexpr std::uint64_t kNumbers[] = {0,
                                                 1,
                                                 2,
                                                 7,
                                                 0x7F,
                                                 0x80,
                                                 0xFF,
                                                 0x7FFF,
                                                 0xFFFF,
                                                 0x7FFFFFFF,
                                                 0x80000000,
                                                 0xFFFFFFFF,
                                                 0x100000000,
                                                 0x3FFFFFFFFFFFFFFF,
                                                 0x7FFFFFFFFFFFFFFF,
                                                 0x8000000000000000,
                                                 0xFFFFFFFFFFFFFFF8,
                                                 0xFFFFFFFFFFFFFFFF};
    const std::uint64_t number = kNumbers[below(std::size(kNumbers))];
    const std::size_t bytes = std::size_t{1} << below(4);
    for (std::size_t i = 0; i < bytes && place + i < content.size(); ++i)
      content[place + i] = static_cast<char>(number >> (8 * i));
  }

  std::mt19937_64 random_;
};

/// Runs `parse` on damaged copies of `content`. Every failure has to be an Error about the input.
template <class Parse>
void survives_mutations(const std::string& content, std::uint64_t seed, const Parse& parse) {
  const TemporaryFolder folder;
  const std::string path = folder / "x";
  Mutator mutate(seed);
  int accepted = 0;
  int refused = 0;
  for (int i = 0; i < kMutations; ++i) {
    write_fresh(path, mutate(content));
    try {
      parse(path);
      ++accepted;
    } catch (const Error& error) {
      ++refused;
      ASSERT_TRUE(error.code() == ErrorCode::kBadInput || error.code() == ErrorCode::kUnsupported)
          << "mutation " << i << ": " << error.what();
    }
  }
  EXPECT_GT(refused, kMutations / 20);
  EXPECT_GT(accepted, 0) << "mutations that are all refused at once test little";
}

TEST(HostileFiles, SafetensorsParserAnswersEveryMutation) {
  const TemporaryFolder folder;
  const std::vector<std::byte> data(64);
  const std::span<const std::byte> bytes(data);
  write_safetensors(folder / "good",
                    {{"w", DType::kF32, {2, 3}, bytes.first(24)},
                     {"b", DType::kBF16, {4}, bytes.first(8)},
                     {"q", DType::kF4, {2, 8}, bytes.first(8)},
                     {"empty", DType::kI64, {0}, {}}},
                    {{"format", "pt"}});
  survives_mutations(read_file(folder / "good"), 1, [](const std::string& path) {
    const SafetensorsFile file(path);
    for (const TensorInfo& tensor : file.tensors()) {
      std::vector<std::byte> copy(tensor.size_bytes());
      file.read_bytes(tensor.name, 0, copy);
      const auto view = file.data(tensor.name);
      ASSERT_TRUE(std::equal(copy.begin(), copy.end(), view.begin(), view.end()));
    }
  });
}

/// Touches all that a reader could.
void read_everything(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    if (value.is_string()) {
      ASSERT_LE(value.as_string().size(), std::size_t{1} << 20);
    } else if (value.is_array() && value.item_type() == GgufType::kString) {
      std::size_t total = 0;
      for (const std::string_view text : value.as_strings()) total += text.size();
      ASSERT_LE(total, std::size_t{1} << 30);
    } else if (value.is_number()) {
      try {
        value.as_float();
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ErrorCode::kBadInput);  // beyond int64
      }
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (!can_dequantize(tensor.type)) continue;
    std::vector<float> values(static_cast<std::size_t>(tensor.element_count()));
    dequantize(tensor.type, file.data(tensor), values);
  }
}

TEST(HostileFiles, GgufParserAnswersEveryMutation) {
  GgufBuilder builder;
  builder.text("general.architecture", "llama")
      .number<std::uint32_t>("general.alignment", GgufType::kU32, 32)
      .texts("list", {"a", "bc"})
      .numbers<std::int32_t>("numbers", GgufType::kI32, {1, 2, 3})
      .number<float>("f", GgufType::kF32, 1.0F)
      .tensor("plain", GgmlType::kF32, {2, 4}, std::string(32, '\1'))
      .tensor("q4", GgmlType::kQ4Type0, {1, 32}, std::string(18, '\1'))
      .tensor("k", GgmlType::kQ6K, {256}, std::string(210, '\1'));
  survives_mutations(builder.build(), 2, [](const std::string& path) {
    const GgufFile file(path);
    read_everything(file);
  });
}

TEST(HostileFiles, GgufTranslationAnswersEveryMutation) {
  // The head of a real file; data of tensors plays no part in the translation.
  const std::string content = read_file(testing::fixture_path("gguf/llama_q4_1.gguf"));
  GgufFile file(testing::fixture_path("gguf/llama_q4_1.gguf"));
  const std::size_t head = file.tensors().front().begin;
  const TemporaryFolder folder;
  const std::string path = folder / "x";
  Mutator mutate(3);
  for (int i = 0; i < kMutations / 20; ++i) {
    const std::string damaged = mutate(content.substr(0, head)) + content.substr(head);
    write_fresh(path, damaged);
    try {
      const GgufFile parsed(path);
      formats::map_gguf_decoder(parsed);
      formats::map_gguf_tokenizer(parsed);
    } catch (const Error& error) {
      ASSERT_NE(error.code(), ErrorCode::kInternal) << "mutation " << i << ": " << error.what();
    }
  }
}

TEST(HostileFiles, LargeCountsDoNotTakeMemory) {
  // 2^60 items in a file of a hundred bytes, at each place where a count stands.
  std::string content = GgufBuilder().texts("list", {"a"}).build();
  const std::uint64_t count = std::uint64_t{1} << 60;
  const TemporaryFolder folder;
  for (std::size_t place = 8; place + 8 <= content.size(); ++place) {
    std::string damaged = content;
    std::memcpy(damaged.data() + place, &count, sizeof count);
    write_fresh(folder / "x", damaged);
    try {
      const GgufFile file(folder / "x");
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
    }
  }
}

}  // namespace
}  // namespace espalier
