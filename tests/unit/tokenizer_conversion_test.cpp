// Folders that hold another program's file and no tokenizer.json.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "temporary_folder.h"
#include "text/base64.h"
#include "text/stream_decoder.h"
#include "text/tokenizer_loader.h"

namespace espalier::text {
namespace {

std::string fixtures() { return std::string(std::getenv("ESPALIER_FIXTURES")) + "/tokenizers"; }

std::string content_of(const Value& file) {
  if (const Value* copy = file.find("copy_of"))
    return read_file(fixtures() + "/" + copy->as_string());
  return decode_base64(file.find("base64")->as_string()).value();
}

std::vector<std::int32_t> ids_of(const Value& value) {
  std::vector<std::int32_t> ids;
  for (const Value& id : value.as_array()) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  return ids;
}

TEST(TokenizerConversion, GivesTheIdsOfTheReference) {
  const Value folders = read_json_file(fixtures() + "/conversions.json");
  std::size_t cases = 0;
  for (const Value& item : folders.as_array()) {
    SCOPED_TRACE(item.find("name")->as_string());
    const testing::TemporaryFolder folder;
    for (const auto& [name, file] : item.find("files")->as_table())
      testing::write_fresh(folder / name, content_of(file));
    testing::write_fresh(folder / "tokenizer_config.json", dump_json(*item.find("config")));
    const auto tokenizer = load_tokenizer(folder.path());
    for (const Value& expected : item.find("cases")->as_array()) {
      const std::string& text = expected.find("text")->as_string();
      EXPECT_EQ(tokenizer->encode(text, true), ids_of(*expected.find("ids"))) << text;
      ++cases;
    }
  }
  EXPECT_GT(cases, 300U);
}

TEST(TokenizerConversion, PrefersTokenizerJson) {
  const testing::TemporaryFolder folder;
  testing::write_fresh(folder / "tokenizer.json", read_file(fixtures() + "/gpt2/tokenizer.json"));
  testing::write_fresh(folder / "tokenizer.model", read_file(fixtures() + "/t5/tokenizer.model"));
  EXPECT_EQ(load_tokenizer(folder.path())->encode("Hello", true),
            load_tokenizer(fixtures() + "/gpt2")->encode("Hello", true));
}

std::string error_of(const testing::TemporaryFolder& folder) {
  try {
    load_tokenizer(folder.path());
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(TokenizerConversion, NamesWhatIsWrongWithAFile) {
  const auto mentions = [](const std::string& name, const std::string& content,
                           const std::string& part, const std::string& second = {},
                           const std::string& more = {}) {
    const testing::TemporaryFolder folder;
    testing::write_fresh(folder / name, content);
    if (!second.empty()) testing::write_fresh(folder / second, more);
    const std::string error = error_of(folder);
    EXPECT_NE(error.find(part), std::string::npos) << error;
    EXPECT_NE(error.find(folder.path()), std::string::npos) << error;
  };
  const std::string model = read_file(fixtures() + "/spm_bpe/tokenizer.model");
  mentions("tokenizer.model", model.substr(0, model.size() / 2), "damaged");
  mentions("tokenizer.model", "\n\xff\xff\xff\xff\x0f", "damaged");
  mentions("tokenizer.model", std::string("\n\x02\x18\x09", 4), "piece of type 9");
  mentions("tokenizer.model", "no base64 here\n", "tokenizer.model:1");
  mentions("tokenizer.model", "", "no tokens");
  mentions("x.tiktoken", "YQ== 0\nYg== x\n", "x.tiktoken:2");
  mentions("tekken.json", "{}", "config");
  mentions("tekken.json",
           R"({"config": {"pattern": "x"}, "vocab": [{"rank": 1, "token_bytes": "YQ=="}]})",
           "vocab[0]");
  mentions("tekken.json",
           R"({"config": {"pattern": "x"}, "vocab": [{"rank": 0, "token_bytes": "Y"}]})", "base64");
  mentions("vocab.json", R"({"a": "x"})", "no usable id", "merges.txt", "");
  mentions("vocab.json", R"({"a": 0, "b": 0})", "same id", "merges.txt", "");
  mentions("vocab.json", R"({"a": 0, "b": 1})", "merges.txt:2", "merges.txt",
           "#version: 0.2\na b c\n");
  mentions("vocab.json", R"({"a": 0, "b": 1})", "not in the vocabulary", "merges.txt", "a c\n");
  mentions("vocab.txt", "a\nb\n", "[UNK]");
  mentions("config.json", "{}", "no tokenizer");
}

TEST(TokenizerConversion, NeverCrashesOnDamagedModels) {
  const std::string model = read_file(fixtures() + "/spm_bpe/tokenizer.model");
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::string damaged = model;
    // The settings stand at the end, the pieces before.
    for (int i = 0; i < 3; ++i) {
      const std::size_t from = round % 2 == 0 ? damaged.size() - 200 : 0;
      damaged[from + random() % (damaged.size() - from)] = static_cast<char>(random());
    }
    const testing::TemporaryFolder folder;
    testing::write_fresh(folder / "tokenizer.model", damaged);
    try {
      load_tokenizer(folder.path())->encode_with_offsets(" Hello é", true);
    } catch (const Error&) {
    }
  }
}

class StreamDecoderFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(StreamDecoderFixture, GivesOutTheTextInParts) {
  const std::string folder = fixtures() + "/" + GetParam();
  const auto tokenizer = load_tokenizer(folder);
  const Value cases = read_json_file(folder + "/cases.json");
  int parts = 0;
  for (const Value& expected : cases.as_array()) {
    StreamDecoder decoder(tokenizer, true);
    std::string text;
    for (const std::int32_t id : ids_of(*expected.find("ids_with_special"))) {
      const std::string part = decoder.push(id);
      parts += part.empty() ? 0 : 1;
      text += part;
    }
    text += decoder.finish();
    EXPECT_EQ(text, expected.find("decoded_skip_special")->as_string());
  }
  EXPECT_GT(parts, 500);
}

INSTANTIATE_TEST_SUITE_P(All, StreamDecoderFixture,
                         ::testing::Values("gpt2", "llama2", "mistral", "gemma", "spm_bpe", "t5",
                                           "unigram_nfkc", "bert_uncased", "qwen2"));

TEST(StreamDecoder, WaitsForTheBytesOfACharacter) {
  const auto tokenizer = load_tokenizer(fixtures() + "/llama2");
  StreamDecoder decoder(tokenizer, true);
  EXPECT_EQ(decoder.push(tokenizer->token_to_id("▁")), "");
  EXPECT_EQ(decoder.push(tokenizer->token_to_id("<0xF0>")), "");
  EXPECT_EQ(decoder.push(tokenizer->token_to_id("<0x9F>")), "");
  EXPECT_EQ(decoder.push(tokenizer->token_to_id("<0x98>")), "");
  EXPECT_EQ(decoder.push(tokenizer->token_to_id("<0x80>")), "😀");
  EXPECT_EQ(decoder.push(tokenizer->token_to_id("<0xF0>")), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

}  // namespace
}  // namespace espalier::text
