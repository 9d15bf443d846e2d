// Datasets of tokens and plain text, against samples of the reference or samples written down.
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/batch.h"
#include "support/datasets.h"

namespace espalier {
namespace {

using testing::open_dataset;
using testing::table_of;
using testing::text_context;

using Ids = std::vector<std::int64_t>;

template <class T>
std::string bytes_of(const std::vector<T>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

Ids numbers(const Value& list) {
  Ids result;
  for (const Value& item : list.as_array()) result.push_back(item.as_int());
  return result;
}

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// Writes X.bin and X.idx with tokens of type T; gives back their prefix.
template <class T>
std::string write_megatron(const testing::TemporaryFolder& folder, const std::string& name,
                           const std::vector<Ids>& sequences, std::uint8_t type) {
  std::vector<T> tokens;
  std::vector<std::int32_t> lengths;
  std::vector<std::int64_t> places;
  std::vector<std::int64_t> documents(sequences.size() + 1);
  std::iota(documents.begin(), documents.end(), 0);
  for (const Ids& sequence : sequences) {
    places.push_back(static_cast<std::int64_t>(tokens.size() * sizeof(T)));
    lengths.push_back(static_cast<std::int32_t>(sequence.size()));
    for (const std::int64_t token : sequence) tokens.push_back(static_cast<T>(token));
  }
  std::string index("MMIDIDX\0\0", 9);
  index += bytes_of(std::vector<std::uint64_t>{1}) + static_cast<char>(type);
  index += bytes_of(std::vector<std::uint64_t>{sequences.size(), documents.size()});
  index += bytes_of(lengths) + bytes_of(places) + bytes_of(documents);
  folder.write(name + ".bin", bytes_of(tokens));
  const std::string path = folder.write(name + ".idx", index);
  return path.substr(0, path.size() - 4);
}

class MegatronData : public ::testing::Test {
 protected:
  std::vector<Ids> documents(const std::string& name) const {
    std::vector<Ids> result;
    for (const Value& document : reference_.find("documents")->find(name)->as_array())
      result.push_back(numbers(document));
    return result;
  }

  static void expect_samples(const Dataset& dataset, const Array& expected) {
    ASSERT_EQ(dataset.size(), static_cast<std::int64_t>(expected.size()));
    for (std::int64_t i = 0; i < dataset.size(); ++i) {
      const Sample sample = dataset.get(i);
      Ids tokens = sample.input_ids;
      tokens.push_back(sample.labels.back());
      EXPECT_EQ(tokens, numbers(expected[static_cast<std::size_t>(i)])) << i;
      EXPECT_TRUE(sample.labels_shifted);
      EXPECT_EQ(Ids(sample.labels.begin(), sample.labels.end() - 1),
                Ids(sample.input_ids.begin() + 1, sample.input_ids.end()));
    }
  }

  Value reference_ = read_json_file(testing::fixture_path("data/megatron.json"));
  testing::TemporaryFolder folder_;
};

TEST_F(MegatronData, SamplesAndTheirOrderAreMegatrons) {
  for (const Value& item : reference_.find("cases")->as_array()) {
    Table config =
        table_of({{"paths", write_megatron<std::uint16_t>(
                                folder_, "data", documents(item.find("data")->as_string()), 8)}});
    for (const char* key : {"split", "part", "seq_length", "seed", "num_samples"}) {
      if (!item.find(key)->is_null()) config.set(key, *item.find(key));
    }
    SCOPED_TRACE(dump_json(config));
    const auto dataset = open_dataset("megatron", config, {});
    EXPECT_TRUE(dataset->keeps_order());
    expect_samples(*dataset, item.find("samples")->as_array());
  }
}

TEST_F(MegatronData, BlendsFollowTheirWeights) {
  const Value& blend = *reference_.find("blend");
  Array paths;
  paths.emplace_back("30");
  paths.emplace_back(write_megatron<std::int32_t>(folder_, "a", documents("a"), 4));
  paths.emplace_back("70");
  paths.emplace_back(write_megatron<std::int64_t>(folder_, "b", documents("b"), 5) + ".bin");
  Table config = table_of({{"paths", paths},
                           {"split", "1,0,0"},
                           {"seq_length", *blend.find("seq_length")},
                           {"num_samples", *blend.find("num_samples")}});
  expect_samples(*open_dataset("megatron", config, {}), blend.find("samples")->as_array());

  config.erase("num_samples");
  EXPECT_NE(message_of([&] { open_dataset("megatron", config, {}); }).find("num_samples"),
            std::string::npos);
}

TEST_F(MegatronData, DocumentsMayBeKeptApart) {
  const std::string prefix =
      write_megatron<std::uint16_t>(folder_, "c", {{5, 6, 0}, {7, 8, 9, 0}}, 8);
  const auto dataset = open_dataset("megatron",
                                    table_of({{"paths", prefix},
                                              {"split", "1"},
                                              {"seq_length", 6},
                                              {"eod_token", 0},
                                              {"reset_attention_mask", true},
                                              {"eod_mask_loss", true}}),
                                    {});
  ASSERT_EQ(dataset->size(), 1);
  const Sample sample = dataset->get(0);
  const bool first_is_short = sample.input_ids[0] == 5;
  EXPECT_EQ(sample.document_starts, first_is_short ? (Ids{0, 3}) : (Ids{0, 4}));
  EXPECT_EQ(sample.labels[first_is_short ? 2 : 3], kIgnoredLabel);
}

TEST_F(MegatronData, BrokenFilesAreRefused) {
  const std::string prefix = write_megatron<std::uint16_t>(folder_, "d", {{1, 2, 3, 0}}, 8);
  const auto message = [&] {
    return message_of([&] {
      open_dataset("megatron", table_of({{"paths", prefix}, {"split", "1"}, {"seq_length", 2}}),
                   {});
    });
  };
  EXPECT_EQ(message(), "no error");
  std::ifstream stream(prefix + ".idx", std::ios::binary);
  const std::string index{std::istreambuf_iterator<char>(stream), {}};
  const auto with = [&](std::size_t place, char byte) {
    std::string changed = index;
    changed[place] = byte;
    folder_.write("d.idx", changed);
    return message();
  };
  EXPECT_NE(with(0, 'X').find("no index of Megatron"), std::string::npos);
  EXPECT_NE(with(9, 2).find("another version"), std::string::npos);
  EXPECT_NE(with(17, 7).find("no integer"), std::string::npos);
  EXPECT_NE(with(20, 1).find("shorter than its header says"), std::string::npos);
  EXPECT_NE(with(34, 100).find("outside of the tokens"), std::string::npos);
  folder_.write("d.idx", index);
  EXPECT_NE(message_of([&] {
              open_dataset("megatron",
                           table_of({{"paths", prefix}, {"split", "0,1"}, {"seq_length", 2}}), {});
            }).find("leaves no documents for train"),
            std::string::npos);
}

class NanoGptData : public ::testing::Test {
 protected:
  template <class T>
  std::string write(const std::string& name, const std::vector<T>& tokens, std::int32_t magic,
                    std::int32_t width) {
    std::vector<std::int32_t> header(256, 0);
    header[0] = magic;
    header[1] = 1;
    header[2] = static_cast<std::int32_t>(tokens.size());
    header[3] = width;
    return folder_.write(name, bytes_of(header) + bytes_of(tokens));
  }

  testing::TemporaryFolder folder_;
};

TEST_F(NanoGptData, RunsOfEveryShardFollowEachOther) {
  write<std::uint16_t>("a.bin", {1, 2, 3, 4, 5, 6, 7}, 20240520, 0);
  write<std::uint32_t>("b.bin", {100000, 2, 3}, 278895051, 4);
  const auto dataset =
      open_dataset("nanogpt", table_of({{"path", folder_.file("*.bin")}, {"seq_len", 2}}), {});
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->get(1).input_ids, (Ids{4, 5}));
  EXPECT_EQ(dataset->get(1).labels, (Ids{5, 6}));
  EXPECT_EQ(dataset->get(2).input_ids, (Ids{100000, 2}));
}

TEST_F(NanoGptData, SamplesMayBeginWhereDocumentsDo) {
  // From the reference's walk: begin at a 9, skip what is left of the document that was cut.
  const std::string path =
      write<std::uint16_t>("a.bin", {1, 9, 2, 3, 4, 9, 5, 9, 6, 7, 9, 8}, 278895051, 2);
  const Table config =
      table_of({{"path", path}, {"seq_len", 2}, {"align_to_bos", true}, {"bos_token", 9}});
  for (const bool indexed : {false, true}) {
    if (indexed) folder_.write("a.bos.idx", bytes_of(std::vector<std::int32_t>{1, 5, 7, 10}));
    const auto dataset = open_dataset("nanogpt", config, {});
    ASSERT_EQ(dataset->size(), 2) << indexed;
    EXPECT_EQ(dataset->get(0).input_ids, (Ids{9, 2}));
    EXPECT_EQ(dataset->get(1).input_ids, (Ids{9, 5}));
    EXPECT_EQ(dataset->get(1).labels, (Ids{5, 9}));
  }
}

TEST_F(NanoGptData, BrokenShardsAreRefused) {
  const auto message = [&](const std::string& path) {
    return message_of([&] {
      open_dataset("nanogpt", table_of({{"path", path}, {"seq_len", 2}}), {});
    });
  };
  EXPECT_NE(message(write<std::uint16_t>("a.bin", {1, 2, 3}, 7, 2)).find("no shard of tokens"),
            std::string::npos);
  EXPECT_NE(message(write<std::uint16_t>("a.bin", {1, 2, 3}, 278895051, 4))
                .find("shorter than its header"),
            std::string::npos);
  EXPECT_NE(message(write<std::uint16_t>("a.bin", {1, 2, 3}, 278895051, 3)).find("unknown width"),
            std::string::npos);
  EXPECT_NE(message(write<std::uint16_t>("a.bin", {1, 2}, 278895051, 2)).find("whole sample"),
            std::string::npos);
  EXPECT_NE(message(folder_.write("a.bin", "short")).find("shorter than its header"),
            std::string::npos);
}

class TextData : public ::testing::Test {
 protected:
  Ids tokens(const std::string& text) const {
    const auto ids = context_.tokenizer->encode(text, false);
    Ids result(ids.begin(), ids.end());
    result.push_back(context_.tokenizer->eos_id());
    return result;
  }
  Ids all_of(const Dataset& dataset) const {
    Ids all;
    for (std::int64_t i = 0; i < dataset.size(); ++i) {
      const Sample sample = dataset.get(i);
      all.insert(all.end(), sample.input_ids.begin(), sample.input_ids.end());
    }
    return all;
  }

  testing::TemporaryFolder folder_;
  DatasetContext context_ = text_context("qwen2");
};

TEST_F(TextData, DocumentsOfEveryKindOfFileAreJoined) {
  folder_.write("a.jsonl", "{\"text\": \"one two\"}\n{\"text\": \"three\"}\n");
  folder_.write("b.csv", "id,text\n1,\"four, five\"\n");
  folder_.write("c.txt", "six seven\n\n  eight  \n");
  Ids expected;
  for (const char* text : {"one two", "three", "four, five", "six seven", "eight"}) {
    const Ids document = tokens(text);
    expected.insert(expected.end(), document.begin(), document.end());
  }
  const auto dataset = open_dataset(
      "pretraining_text", table_of({{"path", folder_.file("")}, {"seq_length", 3}}), context_);
  expected.resize(expected.size() / 3 * 3);
  EXPECT_EQ(all_of(*dataset), expected);
  EXPECT_EQ(dataset->get(0).labels, dataset->get(0).input_ids);

  const auto whole = open_dataset(
      "pretraining_text",
      table_of({{"path", folder_.file("c.txt")}, {"seq_length", 2}, {"document", "file"}}),
      context_);
  Ids one = tokens("six seven\n\n  eight");
  one.resize(one.size() / 2 * 2);
  EXPECT_EQ(all_of(*whole), one);
}

TEST_F(TextData, DocumentsMayBeKeptApart) {
  const std::string path = folder_.write("c.txt", "a\nb\nc\nd\n");  // two tokens each
  const Table config = table_of({{"path", path}, {"seq_length", 3}, {"reset_attention", true}});
  const auto dataset = open_dataset("pretraining_text", config, context_);
  EXPECT_EQ(dataset->get(0).document_starts, (Ids{0, 2}));
  EXPECT_EQ(dataset->get(1).document_starts, (Ids{0, 1}));
}

TEST_F(TextData, ACacheGivesTheSameTokensAndIsMadeAnewWhenItIsDamagedOrTheDataChanges) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += "document number " + std::to_string(i) + "\n";
  const std::string path = folder_.write("c.txt", lines);
  const Table config = table_of({{"path", path}, {"seq_length", 8}});
  const Ids expected = all_of(*open_dataset("pretraining_text", config, context_));
  std::vector<std::string> notes;
  context_.cache_folder = folder_.file("cache");
  context_.note = [&](const std::string& line) { notes.push_back(line); };
  for (int run = 0; run < 2; ++run)
    EXPECT_EQ(all_of(*open_dataset("pretraining_text", config, context_)), expected);
  EXPECT_TRUE(notes.empty());
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(context_.cache_folder))
    files.push_back(entry.path());
  ASSERT_EQ(files.size(), 1U);
  std::filesystem::resize_file(files[0], std::filesystem::file_size(files[0]) - 8);
  EXPECT_EQ(all_of(*open_dataset("pretraining_text", config, context_)), expected);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_NE(notes[0].find("made anew"), std::string::npos) << notes[0];
  folder_.write("c.txt", "another document " + lines);
  EXPECT_NE(all_of(*open_dataset("pretraining_text", config, context_)), expected);
}

TEST_F(TextData, TooLittleTextAndAMissingColumnAreRefused) {
  const std::string path = folder_.write("c.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n");
  EXPECT_NE(
      message_of([&] {
        open_dataset("pretraining_text", table_of({{"path", path}, {"seq_length", 3}}), context_);
      }).find("c.jsonl:2"),
      std::string::npos);
  folder_.write("c.jsonl", "{\"text\": \"a\"}\n");
  EXPECT_NE(
      message_of([&] {
        open_dataset("pretraining_text", table_of({{"path", path}, {"seq_length", 3}}), context_);
      }).find("shorter than one sample"),
      std::string::npos);
}

TEST(HellaSwagData, TheRightEndingIsLearnt) {
  const testing::TemporaryFolder folder;
  const DatasetContext context = text_context("llama3");  // adds a token in front
  const std::string path = folder.write(
      "h.jsonl", R"({"ctx": "A man sits", "endings": ["down.", "up high."], "label": "1"})"
                 "\n");
  const auto dataset = open_dataset("hellaswag", table_of({{"path", path}}), context);
  const Sample sample = dataset->get(0);
  const auto prompt = context.tokenizer->encode("A man sits", true);
  const auto ending = context.tokenizer->encode("up high.", false);
  Ids ids(prompt.begin(), prompt.end());
  ids.insert(ids.end(), ending.begin(), ending.end());
  Ids labels(prompt.size() - 1, kIgnoredLabel);
  labels.insert(labels.end(), ending.begin(), ending.end());
  labels.push_back(kIgnoredLabel);
  EXPECT_EQ(sample.input_ids, ids);
  EXPECT_EQ(sample.labels, labels);
  EXPECT_TRUE(sample.labels_shifted);
  folder.write("h.jsonl", R"({"ctx": "A man sits", "endings": ["down."], "label": ""})"
                          "\n");
  EXPECT_NE(message_of([&] {
              open_dataset("hellaswag", table_of({{"path", path}}), context);
            }).find("number of no ending"),
            std::string::npos);
}

TEST(MockData, SamplesAreRandomButTheSameEachTime) {
  const Table config =
      table_of({{"vocab_size", 50}, {"seq_length", 20}, {"min_length", 5}, {"num_samples", 100}});
  const auto first = open_dataset("mock", config, {});
  const auto second = open_dataset("mock", config, {});
  std::set<std::size_t> lengths;
  for (std::int64_t i = 0; i < 100; ++i) {
    const Sample sample = first->get(i);
    EXPECT_EQ(sample.input_ids, second->get(i).input_ids);
    lengths.insert(sample.input_ids.size());
    for (const std::int64_t id : sample.input_ids) EXPECT_TRUE(id >= 0 && id < 50);
  }
  EXPECT_EQ(*lengths.begin(), 5U);
  EXPECT_EQ(*lengths.rbegin(), 20U);
}

}  // namespace
}  // namespace espalier
