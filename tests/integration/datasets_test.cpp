// The dataset plugins, loaded as the program loads them, against samples of the reference.
#include "support/datasets.h"

#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "engine/data/collate.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/data/sample_length.h"
#include "espalier/io/tensor_io.h"
#include "espalier/sdk/batch.h"

namespace espalier {
namespace {

using testing::fixture_path;
using testing::open_dataset;
using testing::table_of;
using testing::text_context;

std::vector<std::int64_t> numbers(const Value& list) {
  std::vector<std::int64_t> result;
  for (const Value& item : list.as_array()) result.push_back(item.as_int());
  return result;
}

void expect_sample(const Value& expected, const Sample& sample, const std::string& label) {
  EXPECT_EQ(sample.input_ids, numbers(*expected.find("input_ids"))) << label;
  EXPECT_EQ(sample.labels, numbers(*expected.find("labels"))) << label;
  EXPECT_TRUE(sample.attention_mask.empty()) << label;
}

/// What is learnt, as text.
std::string learnt(const Sample& sample, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids;
  for (const std::int64_t label : sample.labels) {
    if (label != kIgnoredLabel) ids.push_back(static_cast<std::int32_t>(label));
  }
  return tokenizer.decode(ids, false);
}

class ReferenceData : public ::testing::TestWithParam<const char*> {
 protected:
  DatasetContext context_ = text_context(GetParam());
  Value expected_ =
      read_json_file(fixture_path("data/samples_" + std::string(GetParam()) + ".json"));

  /// The plugin's name for a mode of the fixtures.
  static std::string tokenization(const std::string& mode) {
    return mode == "shifted" ? "joined" : "separate";
  }

  void expect_samples(const std::string& type, Table config) {
    for (const std::string mode : {"shifted", "separate"}) {
      config.set("tokenization", tokenization(mode));
      const auto dataset = open_dataset(type, config, context_);
      const Array& samples = expected_.find(mode)->as_array();
      ASSERT_EQ(dataset->size(), static_cast<std::int64_t>(samples.size()));
      for (std::int64_t i = 0; i < dataset->size(); ++i) {
        const Sample sample = dataset->get(i);
        EXPECT_EQ(sample.labels_shifted, mode == "shifted");
        expect_sample(samples[static_cast<std::size_t>(i)], sample, mode + " " + std::to_string(i));
      }
    }
  }

  /// Mode "shifted.longest" and so on, with the keys that lead to it.
  void expect_batch(const std::string& mode, const std::string& kind, Table config,
                    std::int64_t multiple = 1) {
    config.set("path", fixture_path("data/squad_flat.jsonl"));
    config.set("tokenization", tokenization(mode));
    const auto dataset = open_dataset("squad", config, context_);
    const std::int64_t count = expected_.find_path("limits.batch")->as_int();
    std::vector<Row> rows;
    for (std::int64_t i = 0; i < count; ++i) rows.push_back({dataset->get(i)});
    const auto pad = static_cast<std::int32_t>(padding_id(*context_.tokenizer));
    const Batch batch = collate(rows, {.pad_id = pad, .pad_seq_len_divisible = multiple});
    EXPECT_EQ(batch.labels_shifted, mode == "shifted");
    for (const char* key : {"input_ids", "labels", "attention_mask"}) {
      const std::string name = mode + "." + kind + "." + key;
      const at::Tensor tensor =
          batch.get(key).defined() ? batch.get(key) : at::ones_like(batch.get("input_ids"));
      EXPECT_TRUE(tensor.equal(collated_.at(name))) << name;
    }
    const at::Tensor mask = collated_.at(mode + "." + kind + ".attention_mask");
    EXPECT_EQ(batch.num_tokens, mask.sum().item<std::int64_t>());
    const at::Tensor labels = collated_.at(mode + "." + kind + ".labels");
    EXPECT_EQ(batch.num_label_tokens, labels.ne(kIgnoredLabel).sum().item<std::int64_t>());
  }

  std::map<std::string, at::Tensor> collated_ =
      read_tensors(fixture_path("data/collated_" + std::string(GetParam()) + ".safetensors"));
};

TEST_P(ReferenceData, PublishedAndFlatSquadFilesGiveTheSamplesOfTheReference) {
  expect_samples("squad", table_of({{"path", fixture_path("data/squad_v1.json")}}));
  expect_samples("squad", table_of({{"path", Array{fixture_path("data/squad_flat.jsonl")}}}));
}

TEST_P(ReferenceData, MappedColumnsGiveTheSamplesOfSquadFromJsonAndCsv) {
  // The same prompts, written into columns; quotes, delimiters and line breaks are in some of them.
  const testing::TemporaryFolder folder;
  std::string csv =
      "\xEF\xBB\xBF"
      "question,\"the answer\",context\r\n";
  std::string jsonl;
  const auto quoted = [](std::string text) {
    for (std::size_t i = 0; (i = text.find('"', i)) != std::string::npos; i += 2)
      text.insert(i, 1, '"');
    return "\"" + text + "\"";
  };
  std::string_view lines;
  const std::string file = read_file(fixture_path("data/squad_flat.jsonl"));
  lines = file;
  while (!lines.empty()) {
    const Value record = parse_json(lines.substr(0, lines.find('\n')));
    lines.remove_prefix(lines.find('\n') + 1);
    const std::string context = "Context: " + record.find("context")->as_string();
    const std::string question = "Question: " + record.find("question")->as_string() + " Answer:";
    const std::string answer = record.find_path("answers.text")->as_array().front().as_string();
    csv += quoted(question) + "," + quoted(answer) + "," + quoted(context) + "\r\n";
    jsonl += dump_json(
                 table_of({{"context", context}, {"question", question}, {"the answer", answer}})) +
             "\n";
  }
  for (const std::string& path : {folder.write("a.csv", csv), folder.write("a.jsonl", jsonl)}) {
    expect_samples("column_mapped",
                   table_of({{"path", path},
                             {"column_mapping", table_of({{"context", "context"},
                                                          {"question", "question"},
                                                          {"answer", "the answer"}})}}));
  }
}

TEST_P(ReferenceData, BatchesArePaddedAndCutAsTheReferenceDoes) {
  const Value& limits = *expected_.find("limits");
  const Value& length = *expected_.find_path("rules.max_length");
  for (const std::string mode : {"shifted", "separate"}) {
    expect_batch(mode, "longest", {});
    expect_batch(mode, "multiple", {}, limits.find("multiple")->as_int());
    expect_batch(mode, "max_length", table_of({{"seq_length", length}, {"padding", "max_length"}}));
    expect_batch(mode, "truncated",
                 table_of({{"seq_length", *limits.find("truncate")}, {"truncation", true}}));
  }
}

TEST_P(ReferenceData, ChatsAreMaskedByPrefixesOrByGenerationBlocks) {
  const Value expected = read_json_file(fixture_path("data/chat_expected.json"));
  const testing::TemporaryFolder folder;
  std::string lines;
  for (const Value& record : expected.find("records")->as_array())
    lines += dump_json(record) + "\n";
  const Table config = table_of({{"path", folder.write("chat.jsonl", lines)}});
  for (const std::string prefix : {"", "generation_"}) {
    const DatasetContext context =
        prefix.empty()
            ? context_
            : text_context(GetParam(), expected.find("generation_template")->as_string());
    const auto dataset = open_dataset("chat", config, context);
    const Array& samples = expected.find_path("expected." + std::string(GetParam()))->as_array();
    ASSERT_EQ(dataset->size(), static_cast<std::int64_t>(samples.size()));
    for (std::int64_t i = 0; i < dataset->size(); ++i) {
      const Value& reference = samples[static_cast<std::size_t>(i)];
      const Sample sample = dataset->get(i);
      EXPECT_EQ(sample.input_ids, numbers(*reference.find(prefix + "ids"))) << prefix << i;
      std::vector<std::int64_t> mask;
      for (const std::int64_t label : sample.labels) mask.push_back(label == kIgnoredLabel ? 0 : 1);
      EXPECT_EQ(mask, numbers(*reference.find(prefix + "mask"))) << prefix << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, ReferenceData, ::testing::Values("llama3", "qwen2"),
                         [](const auto& info) { return std::string(info.param); });

class ChatDataset : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> open(const std::string& lines, Table config = {},
                                      const std::string& chat_template = {}) {
    config.set("path", folder_.write("chat.jsonl", lines));
    context_ = text_context("qwen2", chat_template);
    return open_dataset("chat", config, context_);
  }
  std::string learnt_of(const std::string& line, const Table& config = {},
                        const std::string& chat_template = {}) {
    const auto dataset = open(line, config, chat_template);
    return learnt(dataset->get(0), *context_.tokenizer);
  }

  testing::TemporaryFolder folder_;
  DatasetContext context_;
};

const char* const kTwoTurns =
    R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}, {"role": "user", "content": "e"}]})";

TEST_F(ChatDataset, MaskChoosesWhatIsLearnt) {
  EXPECT_EQ(learnt_of(kTwoTurns), "b<|im_end|>\nd<|im_end|>\n");
  EXPECT_EQ(learnt_of(kTwoTurns, table_of({{"mask", "last_assistant"}})), "d<|im_end|>\n");
  const Sample all = open(kTwoTurns, table_of({{"mask", "all"}}))->get(0);
  EXPECT_EQ(all.labels, all.input_ids);
  EXPECT_FALSE(all.labels_shifted);
}

TEST_F(ChatDataset, ToolsReasoningAndOtherKeysReachTheTemplate) {
  const char* const shows =
      "{% for t in tools %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}{% if m.role "
      "== 'assistant' %}"
      "{% generation %}{{ m.reasoning_content }}|{{ m.content }}|{% for c in m.tool_calls %}{{ "
      "c.id }} {{ c.type }} "
      "{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}{% endgeneration %}{% "
      "else %}"
      "{{ m.role }}:{{ m.content }}:{{ m.tool_call_id }};{% endif %}{% endfor %}";
  const char* const record =
      R"({"tools": "[{\"type\": \"function\", \"function\": {\"name\": \"look\"}}]", "messages": [
          {"role": "user", "content": [{"type": "text", "text": "where"}, {"type": "text", "text": "now"}]},
          {"role": "assistant", "content": null, "reasoning_content": "hm",
           "tool_calls": [{"function": {"name": "look", "arguments": {"at": 1}}}]},
          {"role": "tool", "content": "here", "tool_call_id": "call_0"}]})";
  const auto dataset = open(record, {}, shows);
  const Sample sample = dataset->get(0);
  EXPECT_EQ(learnt(sample, *context_.tokenizer), R"(hm||call_0 function look {"at": 1})");
  std::vector<std::int32_t> ids(sample.input_ids.begin(), sample.input_ids.end());
  EXPECT_EQ(context_.tokenizer->decode(ids, false),
            "[look]user:where now:;hm||call_0 function look {\"at\": 1}tool:here:call_0;");
}

TEST_F(ChatDataset, ReasoningIsNotLearntOnRequest) {
  const char* const thinks =
      "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
      "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
      "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor "
      "%}";
  const char* const record =
      R"({"messages": [{"role": "user", "content": "why"},
          {"role": "assistant", "content": "so", "reasoning_content": "since it is"},
          {"role": "user", "content": "and"},
          {"role": "assistant", "content": "then", "reasoning_content": "as it was"},
          {"role": "user", "content": "thus"}, {"role": "assistant", "content": "well"}]})";
  EXPECT_EQ(
      learnt_of(record, {}, thinks),
      "<think>since it is</think>so<|im_end|><think>as it was</think>then<|im_end|>well<|im_end|>");
  const Table masked = table_of({{"mask_reasoning_content", true}});
  EXPECT_EQ(learnt_of(record, masked, thinks), "so<|im_end|>then<|im_end|>well<|im_end|>");
  const Sample sample = open(record, masked, thinks)->get(0);
  EXPECT_EQ(sample.input_ids, open(record, {}, thinks)->get(0).input_ids);
}

TEST_F(ChatDataset, LinesThatAreNoJsonAreLeftOutOnRequest) {
  const std::string good =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  const std::string lines = "{broken\n" + good + "\n\n[1]\n" + good + "\nmore\n";
  EXPECT_THROW(open(lines), Error);
  const auto dataset = open(lines, table_of({{"skip_invalid_samples", true}}));
  EXPECT_EQ(dataset->size(), 2);
  EXPECT_EQ(learnt(dataset->get(1), *context_.tokenizer), "b<|im_end|>\n");
  // A record without an answer is no broken line.
  EXPECT_THROW(open(lines + R"({"messages": [{"role": "user", "content": "a"}]})",
                    table_of({{"skip_invalid_samples", true}})),
               Error);
}

TEST_F(ChatDataset, ShareGptSpeakersAndSystemTextBecomeMessages) {
  const char* const shows = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}";
  const auto dataset = open(R"({"system": "s", "conversations": [{"from": "human", "value": "h"},
    {"from": "gpt", "value": "g"}, {"from": "observation", "value": "o"}]})",
                            table_of({{"mask", "all"}}), shows);
  EXPECT_EQ(learnt(dataset->get(0), *context_.tokenizer), "system=s;user=h;assistant=g;tool=o;");
}

TEST_F(ChatDataset, ATemplateThatRewritesEarlierTurnsIsRefusedUnlessOnlyTheLastIsLearnt) {
  // Drops the reasoning of all assistant messages but the last, as reasoning models do.
  const std::string forgets =
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}({{ "
      "m.thinking }}){% endif %}"
      "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
  const std::string record =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": "x"},
          {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "thinking": "y"}]})";
  try {
    open(record, {}, forgets);
    FAIL() << "no error";
  } catch (const Error& error) {
    const Problem& problem = error.problems().front();
    EXPECT_NE(problem.what.find("which text is the assistant's"), std::string::npos)
        << error.what();
    EXPECT_NE(problem.where.find("chat.jsonl:1"), std::string::npos) << error.what();
    EXPECT_NE(problem.hint.find("last_assistant"), std::string::npos) << error.what();
  }
  EXPECT_EQ(learnt_of(record, table_of({{"mask", "last_assistant"}}), forgets), "(y)d");
}

TEST_F(ChatDataset, GetIsEqualFromManyThreads) {
  const std::string path = fixture_path("data/chat.jsonl");
  context_ = text_context("qwen2");
  const auto dataset = open_dataset("chat", table_of({{"path", path}}), context_);
  std::vector<Sample> alone;
  for (std::int64_t i = 0; i < dataset->size(); ++i) alone.push_back(dataset->get(i));
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  std::atomic<int> different = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        for (std::int64_t i = 0; i < dataset->size(); ++i) {
          const Sample sample = dataset->get(i);
          const Sample& expected = alone[static_cast<std::size_t>(i)];
          if (sample.input_ids != expected.input_ids || sample.labels != expected.labels)
            ++different;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, 0);
}

TEST(DatasetFiles, SeveralFilesFollowEachOtherUpToTheLimit) {
  const std::string path = fixture_path("data/squad_flat.jsonl");
  const DatasetContext context = text_context("qwen2");
  const auto one = open_dataset("squad", table_of({{"path", path}}), context);
  const Array two = {fixture_path("data/squad_v1.json"), path};
  const auto both =
      open_dataset("squad", table_of({{"path", two}, {"limit_dataset_samples", 70}}), context);
  ASSERT_EQ(one->size(), 60);
  ASSERT_EQ(both->size(), 70);
  EXPECT_EQ(both->get(65).input_ids, one->get(5).input_ids);
}

TEST(DatasetFiles, PromptsAreRenderedByTheChatTemplateOnRequest) {
  const DatasetContext context = text_context("qwen2");
  const auto dataset = open_dataset(
      "squad",
      table_of({{"path", fixture_path("data/squad_flat.jsonl")}, {"use_chat_template", true}}),
      context);
  EXPECT_EQ(learnt(dataset->get(0), *context.tokenizer), "27 days<|im_end|>\n");
}

TEST(DatasetFiles, TwentyThousandRecordsOpenFast) {
  const testing::TemporaryFolder folder;
  std::string lines;
  const std::string text(300, 'x');
  for (int i = 0; i < 20000; ++i) {
    lines += R"({"messages": [{"role": "user", "content": "What is )" + std::to_string(i) +
             R"(?"}, {"role": "assistant", "content": ")" + text + "\"}]}\n";
  }
  const std::string path = folder.write("many.jsonl", lines);
  const DatasetContext context = text_context("qwen2");
  const auto begin = std::chrono::steady_clock::now();
  const auto dataset = open_dataset("chat", table_of({{"path", path}}), context);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(dataset->size(), 20000);
  RecordProperty("open_milliseconds", static_cast<int>(seconds * 1000));
  std::printf("20,000 records: %.0f ms\n", seconds * 1000);
  // A generous bound for a busy machine; tokenising them all would take far longer.
  EXPECT_LT(seconds, 1.5);
}

TEST(DatasetFiles, TwentyThousandQuestionsOfAPublishedFileOpenFast) {
  const testing::TemporaryFolder folder;
  std::string paragraphs;
  for (int i = 0; i < 20000; ++i) {
    paragraphs += std::string(i == 0 ? "" : ",\n") + R"({"context": ")" + std::string(300, 'x') +
                  R"(", "qas": [{"question": "q", "answers": [{"text": "x"}]}]})";
  }
  const std::string path =
      folder.write("many.json", R"({"data": [{"paragraphs": [)" + paragraphs + "]}]}");
  const DatasetContext context = text_context("qwen2");
  const auto begin = std::chrono::steady_clock::now();
  const auto dataset = open_dataset("squad", table_of({{"path", path}}), context);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(dataset->size(), 20000);
  std::printf("20,000 questions: %.0f ms\n", seconds.count() * 1000);
  EXPECT_LT(seconds.count(), 1.5);
}

TEST(Collate, ShiftsOtherSamplesWhereOneIsShifted) {
  Sample plain;
  plain.input_ids = {1, 2, 3, 4, 5};
  plain.labels = {1, 2, 3, 4, 5};
  plain.document_starts = {0, 3};
  Sample shifted;
  shifted.input_ids = {6, 7};
  shifted.labels = {kIgnoredLabel, 8};
  shifted.labels_shifted = true;
  const Batch batch =
      collate(std::vector<Row>{{plain, shifted}, {shifted}}, {.pad_seq_len_divisible = 8});
  EXPECT_TRUE(batch.labels_shifted);
  const std::int64_t no = kIgnoredLabel;
  const std::vector<std::int64_t> expected = {2,  3, no, 5,  no, no, 8,  no,
                                              no, 8, no, no, no, no, no, no};
  const at::Tensor labels = batch.get("labels");
  EXPECT_EQ(std::vector<std::int64_t>(labels.const_data_ptr<std::int64_t>(),
                                      labels.const_data_ptr<std::int64_t>() + 16),
            expected);
  EXPECT_EQ(batch.num_label_tokens, 5);
  EXPECT_EQ(batch.num_tokens, 9);
}

}  // namespace
}  // namespace espalier
