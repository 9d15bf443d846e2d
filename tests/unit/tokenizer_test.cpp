#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/sha256.h"
#include "espalier/base/utf8.h"
#include "text/pattern/pattern.h"
#include "text/tokenize_lines.h"
#include "text/tokenizer_loader.h"

namespace espalier::text {
namespace {

std::string fixture(const std::string& name) {
  return std::string(std::getenv("ESPALIER_FIXTURES")) + "/tokenizers/" + name;
}

std::vector<std::int32_t> ids_of(const Value& value) {
  std::vector<std::int32_t> ids;
  for (const Value& id : value.as_array()) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  return ids;
}

class TokenizerFixture : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerFixture, GivesTheResultsOfTheReference) {
  const auto tokenizer = load_tokenizer(fixture(GetParam()));
  const Value cases = read_json_file(fixture(GetParam()) + "/cases.json");
  for (const Value& expected : cases.as_array()) {
    const std::string& text = expected.find("text")->as_string();
    SCOPED_TRACE(text);
    const Encoding encoding = tokenizer->encode_with_offsets(text, false);
    EXPECT_EQ(encoding.ids, ids_of(*expected.find("ids")));
    EXPECT_EQ(tokenizer->encode(text, false), encoding.ids);
    const auto with_special = ids_of(*expected.find("ids_with_special"));
    EXPECT_EQ(tokenizer->encode(text, true), with_special);
    EXPECT_EQ(tokenizer->decode(with_special, false), expected.find("decoded")->as_string());
    EXPECT_EQ(tokenizer->decode(with_special, true),
              expected.find("decoded_skip_special")->as_string());
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
      EXPECT_EQ(encoding.tokens[i], expected.find("tokens")->as_array()[i].as_string());
      const Array& offsets = expected.find("offsets")->as_array()[i].as_array();
      EXPECT_EQ(encoding.offsets[i].first, offsets[0].as_int());
      EXPECT_EQ(encoding.offsets[i].second, offsets[1].as_int());
    }
  }
}

/// The rule of big_text.json: a megabyte put together of the short texts.
std::string big_text(const Value& cases) {
  std::vector<std::string> pool;
  for (const Value& item : cases.as_array()) {
    const std::string& text = item.find("text")->as_string();
    if (count_code_points(text) < 200) pool.push_back(text);
  }
  std::string big;
  for (std::uint64_t state = 1; big.size() < 1'000'000;) {
    state = (1103515245 * state + 12345) % (1ULL << 31U);
    big += pool[(state >> 8U) % pool.size()];
    big += (state >> 16U & 1U) != 0 ? '\n' : ' ';
  }
  return big;
}

TEST_P(TokenizerFixture, TokenizesAMegabyteAsTheReference) {
  const auto tokenizer = load_tokenizer(fixture(GetParam()));
  const std::string text = big_text(read_json_file(fixture(GetParam()) + "/cases.json"));
  const Value expected = read_json_file(fixture(GetParam()) + "/big_text.json");
  ASSERT_EQ(sha256(std::as_bytes(std::span(text))), expected.find("text_sha256")->as_string());
  const std::vector<std::int32_t> ids = tokenizer->encode(text, false);
  EXPECT_EQ(sha256(std::as_bytes(std::span(ids))),
            expected.find("ids_sha256_little_endian_int32")->as_string());
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFixture,
                         testing::Values("bert_uncased", "deepseek_v3", "gemma", "gpt2",
                                         "gpt2_added_tokens", "llama2", "llama3", "mistral",
                                         "o200k", "qwen2", "smollm", "spm_bpe", "t5",
                                         "unigram_nfkc"));

std::vector<std::string> split_expressions() {
  std::vector<std::string> expressions = {kGpt2Expression};
  for (const char* name : {"llama3", "qwen2", "o200k", "deepseek_v3"}) {
    const Value file = read_json_file(fixture(name) + "/tokenizer.json");
    for (const Value& part : file.find_path("pre_tokenizer.pretokenizers")->as_array())
      if (const Value* regex = part.find_path("pattern.Regex"))
        expressions.push_back(regex->as_string());
  }
  return expressions;
}

std::string random_text(std::mt19937& random) {
  static const std::u32string kNasty =
      U" \n\r\t\u00a0\u3000  "
      U"''sStTlLrRvVeEdDmMſabzABZ019.,!/-_(ʰªǅ中龥ァ٣½ⅷ\u0301\u093c\u20dd€+😀\u1c89\u0897\U00010d40";
  std::u32string points;
  const std::size_t length = random() % 30;
  for (std::size_t i = 0; i < length; ++i) {
    char32_t point = kNasty[random() % kNasty.size()];
    if (random() % 12 == 0) {
      point = random() % 0x11000 * (random() % 16 + 1);
      if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) point = U'x';
    }
    points += point;
  }
  return to_utf8(points);
}

TEST(LexerPattern, MatchesWhatTheRegularExpressionMatches) {
  std::mt19937 random(20240611);
  for (const std::string& expression : split_expressions()) {
    SCOPED_TRACE(expression);
    const auto lexer = make_lexer_pattern(expression);
    ASSERT_NE(lexer, nullptr);
    const auto regex = make_regex_pattern(expression, "test");
    for (int round = 0; round < 4000; ++round) {
      const std::string text = random_text(random);
      std::vector<Span> fast;
      std::vector<Span> exact;
      lexer->find(text, fast);
      regex->find(text, exact);
      ASSERT_EQ(fast.size(), exact.size()) << text;
      for (std::size_t i = 0; i < fast.size(); ++i) {
        ASSERT_EQ(fast[i].begin, exact[i].begin) << text;
        ASSERT_EQ(fast[i].end, exact[i].end) << text;
        ASSERT_EQ(fast[i].matched, exact[i].matched) << text;
      }
    }
  }
}

TEST(Tokenizer, ReadsSpecialTokensOfTheFolder) {
  const auto tokenizer = load_tokenizer(fixture("llama3"));
  EXPECT_EQ(tokenizer->bos_id(), tokenizer->token_to_id("<|begin_of_text|>"));
  EXPECT_EQ(tokenizer->id_to_token(tokenizer->eos_id()), "<|eot_id|>");
  EXPECT_EQ(tokenizer->id_to_token(tokenizer->pad_id()), "<|end_of_text|>");
  EXPECT_EQ(tokenizer->unk_id(), -1);
  EXPECT_EQ(tokenizer->vocab_size(), 1505);
  EXPECT_EQ(tokenizer->decode({-1, 999999}, false), "");
}

TEST(Tokenizer, TreatsInvalidBytesAsReplacementCharacters) {
  const auto tokenizer = load_tokenizer(fixture("gpt2"));
  EXPECT_EQ(tokenizer->encode("a\xff\xe2\x82z", false), tokenizer->encode("a\uFFFD\uFFFDz", false));
}

// Under a sanitizer the paths are walked, and not timed.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kLongWord = 10'000;
constexpr std::clock_t kReasonableTime = 60 * CLOCKS_PER_SEC;
#else
constexpr std::size_t kLongWord = 400'000;
constexpr std::clock_t kReasonableTime = 3 * CLOCKS_PER_SEC;
#endif

TEST_P(TokenizerFixture, TakesALongWordInReasonableTime) {
  const auto tokenizer = load_tokenizer(fixture(GetParam()));
  for (const std::string part : {"e", " ", "ab", "\n", "é", "1", "-", "the"}) {
    std::string text;
    while (text.size() < kLongWord) text += part;
    const std::clock_t start = std::clock();
    tokenizer->encode(text, false);
    // A few hundredths, or minutes for a rule that is quadratic.
    EXPECT_LT(std::clock() - start, kReasonableTime) << part;
  }
}

TEST(Tokenizer, PutsPairsTogether) {
  const auto tokenizer = load_tokenizer(fixture("bert_uncased"));
  const Encoding pair = tokenizer->encode_pair("A", "b c", true);
  EXPECT_EQ(pair.tokens, (std::vector<std::string>{"[CLS]", "a", "[SEP]", "b", "c", "[SEP]"}));
  EXPECT_EQ(pair.type_ids, (std::vector<std::int32_t>{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(pair.offsets[4], (std::pair<std::int64_t, std::int64_t>(2, 3)));
  EXPECT_EQ(pair.ids[2], tokenizer->token_to_id("[SEP]"));
}

TEST(Tokenizer, SaysWhatIsMissingForAnUnknownWord) {
  const std::string text =
      R"({"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"a": 0}}})";
  std::string folder = testing::TempDir() + "/unknown_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::ofstream(folder + "/tokenizer.json") << text;
  const auto tokenizer = load_tokenizer(folder);
  EXPECT_EQ(tokenizer->encode("a", false), std::vector<std::int32_t>{0});
  EXPECT_THROW(tokenizer->encode("b", false), Error);
  std::filesystem::remove_all(folder);
}

TEST(Tokenizer, ServesSeveralThreads) {
  const auto tokenizer = load_tokenizer(fixture("qwen2"));
  const std::string text = "Hello wörld, it's 2024!\n  中文 text";
  const auto expected = tokenizer->encode(text, true);
  std::vector<std::thread> threads;
  std::array<bool, 4> same{};
  for (std::size_t i = 0; i < same.size(); ++i)
    threads.emplace_back([&, i] {
      same[i] = true;
      for (int round = 0; round < 200; ++round)
        same[i] = same[i] && tokenizer->encode(text, true) == expected;
    });
  for (std::thread& thread : threads) thread.join();
  for (const bool equal : same) EXPECT_TRUE(equal);
}

TEST(TokenizeLine, GoesBothWays) {
  const auto tokenizer = load_tokenizer(fixture("gpt2"));
  const std::string line = tokenize_line(*tokenizer, R"({"text": "aé"})", false, "x:1");
  const Value encoded = parse_json(line);
  EXPECT_EQ(encoded.find("offsets")->as_array().size(), encoded.find("ids")->as_array().size());
  EXPECT_EQ(detokenize_line(*tokenizer, line, false, "x:1"), R"({"text": "aé"})");
  EXPECT_THROW(tokenize_line(*tokenizer, "{}", false, "x:1"), Error);
  EXPECT_THROW(detokenize_line(*tokenizer, R"({"ids": [1.5]})", false, "x:1"), Error);
}

/// A folder with one tokenizer.json, removed at the end.
class MalformedTokenizer : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/malformed_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// The error of loading `json`; "" when it loads.
  std::string error_of(const std::string& json) const {
    std::ofstream(folder_ + "/tokenizer.json") << json;  // no need to survive a crash
    try {
      load_tokenizer(folder_);
      return "";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos)
          << error.what();
      return error.what();
    }
  }

  std::string folder_;
};

TEST_F(MalformedTokenizer, NamesTheKey) {
  const std::string bpe = R"({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": )";
  const auto mentions = [&](const std::string& json, const std::string& part) {
    EXPECT_NE(error_of(json).find(part), std::string::npos) << json << "\n" << error_of(json);
  };
  mentions("{", "JSON");
  mentions("[]", "object");
  mentions("{}", "model");
  mentions(R"({"model": {"type": "Nonsense"}})", "model.type");
  mentions(R"({"model": {"type": "BPE", "vocab": {}}})", "merges");
  mentions(R"({"model": {"type": "BPE", "vocab": [], "merges": []}})", "model.vocab");
  mentions(R"({"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}})", "model.vocab");
  mentions(R"({"model": {"type": "BPE", "vocab": {"a": 999999999}, "merges": []}})", "model.vocab");
  mentions(R"({"model": )" + bpe + R"(["a c"]}})", "not in the vocabulary");
  mentions(R"({"model": )" + bpe + R"([["a", "b"]]}})", "not in the vocabulary");
  mentions(R"({"model": )" + bpe + R"(["a b c"]}})", "merge 0");
  mentions(R"({"normalizer": {"type": "X"}, "model": )" + bpe + "[]}}", "normalizer.type");
  mentions(R"({"pre_tokenizer": {"type": "Sequence"}, "model": )" + bpe + "[]}}", "pretokenizers");
  mentions(R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
              "invert": false}, "model": )" +
               bpe + "[]}}",
           "pre_tokenizer.pattern.Regex");
  mentions(R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "x"}, "behavior": "No",
              "invert": false}, "model": )" +
               bpe + "[]}}",
           "pre_tokenizer.behavior");
  mentions(R"({"added_tokens": [{"content": "x"}], "model": )" + bpe + "[]}}", "added_tokens[0]");
  mentions(
      R"({"added_tokens": [{"id": 7, "content": "x", "single_word": false, "lstrip": false, "rstrip": false,
              "normalized": false, "special": true}], "model": )" +
          bpe + "[]}}",
      "added_tokens[0].id");
  mentions(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})", "same id");
  mentions(R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})", "twice");
  mentions(R"({"model": {"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}})", "dropout");
  mentions(R"({"model": {"type": "Unigram", "vocab": [["a", "b"]]}})", "entry 0");
  mentions(R"({"model": {"type": "Unigram", "vocab": []}})", "empty");
  mentions(R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1}})", "unk_id");
  mentions(R"({"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}})",
           "max_input_chars_per_word");
  mentions(R"({"model": {"type": "WordLevel", "vocab": {"a": 0}}})", "unk_token");
  mentions(R"({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "model": )" +
               bpe + "[]}}",
           "character map");
  mentions(R"({"truncation": 5, "model": )" + bpe + "[]}}", "truncation");
  mentions(
      R"({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}],
              "pair": [], "special_tokens": {}}, "model": )" +
          bpe + "[]}}",
      "single[0].Sequence.id");
  mentions(R"({"decoder": {"type": 3}, "model": )" + bpe + "[]}}", "decoder.type");
  EXPECT_EQ(error_of(R"({"model": )" + bpe + "[]}}"), "");
}

TEST_F(MalformedTokenizer, NeverCrashesOnMutations) {
  const std::string json =
      R"({"version": "1.0", "added_tokens": [{"id": 4, "content": "<x>", "single_word": false,
    "lstrip": true, "rstrip": false, "normalized": true, "special": true}], "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<x>": {"id": "<x>", "ids": [4],
    "tokens": ["<x>"]}}}, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
    "model": {"type": "BPE", "unk_token": "b", "fuse_unk": true, "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3},
    "merges": ["a b"]}})";
  ASSERT_EQ(error_of(json), "");
  std::mt19937 random(7);
  for (int round = 0; round < 1500; ++round) {
    std::string mutated = json;
    for (int i = 0; i < 2; ++i) {
      const std::size_t at = random() % mutated.size();
      if (random() % 2 == 0) {
        mutated.erase(at, random() % 12 + 1);
      } else {
        mutated[at] = static_cast<char>("{}[]\":,0a- "[random() % 11]);
      }
    }
    if (error_of(mutated).empty()) load_tokenizer(folder_)->encode_with_offsets(" ab <x>é", true);
  }
}

}  // namespace
}  // namespace espalier::text
