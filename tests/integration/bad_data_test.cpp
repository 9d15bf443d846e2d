// Every mistake in a data file ends in an Error that names what, file and line.
#include <gtest/gtest.h>

#include "espalier/base/error.h"
#include "support/datasets.h"

namespace espalier {
namespace {

using testing::open_dataset;
using testing::table_of;
using testing::text_context;

struct BadData {
  const char* name;
  const char* type;
  const char* file;
  std::string content;
  const char* what;   ///< part of the first problem
  const char* where;  ///< after the folder
  Table config = {};
};

const Value kColumns = table_of({{"question", "q"}, {"answer", "a"}});

Table columns() { return table_of({{"column_mapping", kColumns}}); }
Table columns_and(const char* key, const Value& value) {
  Table table = columns();
  table.set(key, value);
  return table;
}

const std::string kGoodChat =
    R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";

/// A chat whose second line is `line`.
std::string after_good(const std::string& line) {
  return kGoodChat + "\n" + line + "\n" + kGoodChat + "\n";
}
std::string one_message(const std::string& message) {
  return after_good("{\"messages\": [" + message + "]}");
}
std::string answers(const std::string& text) {
  return "{\"context\": \"c\",\n \"question\": \"q\", \"answers\": " + text + "}";
}
std::string article(const std::string& paragraphs) {
  return "{\"version\": \"1.1\",\n \"data\": [\n  {\"paragraphs\": " + paragraphs + "}]}";
}

/// Cases of one kind share a test, because each process that loads LibTorch takes its time.
void expect_refused(const std::vector<BadData>& cases) {
  const DatasetContext context = text_context("qwen2");
  for (const BadData& data : cases) {
    SCOPED_TRACE(data.name);
    const testing::TemporaryFolder folder;
    const std::string path = folder.file(data.file);
    if (data.content != "absent") folder.write(data.file, data.content);
    Table config = data.config;
    config.set("path", path);
    try {
      open_dataset(data.type, config, context);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      const Problem& problem = error.problems().front();
      EXPECT_TRUE(error.code() == ErrorCode::kBadInput || error.code() == ErrorCode::kIo)
          << error.what();
      EXPECT_NE(problem.what.find(data.what), std::string::npos) << error.what();
      const std::string_view where = data.where;
      const bool outside = where.empty() || where.front() == '@';  // not a place in the file
      const std::string place =
          outside ? std::string(where.substr(!where.empty())) : folder.file(data.where);
      EXPECT_EQ(problem.where.substr(0, place.size()), place) << error.what();
      EXPECT_FALSE(problem.expected.empty() && problem.hint.empty()) << error.what();
    }
  }
}

TEST(BadData, FilesAreRefusedWithTheirPlace) {
  expect_refused(
      {BadData{"missing_file", "chat", "x.jsonl", "absent", "cannot open", ""},
       BadData{"empty_file", "chat", "x.jsonl", "", "the file is empty", "x.jsonl"},
       BadData{"blank_file", "chat", "x.jsonl", " \n\n", "the file is empty", "x.jsonl"},
       BadData{"no_json", "chat", "x.jsonl", "\x89PNG\r\n", "neither JSON nor JSON Lines",
               "x.jsonl:1"},
       BadData{"cut_parquet", "chat", "x.jsonl", "PAR1\x15\x04", "it ends early", "x.jsonl"},
       BadData{"cut_gzip", "chat", "x.jsonl", "\x1F\x8B\x08", "its data ends early", "x.jsonl"},
       BadData{"empty_array", "chat", "x.json", "[]", "no records", "x.json"},
       BadData{"broken_line", "chat", "x.jsonl", after_good("{\"messages\": [}"), "not valid JSON",
               "x.jsonl:2:15"},
       BadData{"broken_first_line", "chat", "x.jsonl", "{\"messages\": [\n" + kGoodChat,
               "not valid JSON", "x.jsonl:2"},
       BadData{"line_cut_short", "chat", "x.jsonl", kGoodChat + "\n{\"messages\": [{\"ro",
               "not valid JSON", "x.jsonl:2"},
       BadData{"two_values_in_a_line", "chat", "x.jsonl", after_good(kGoodChat + kGoodChat),
               "not valid JSON", "x.jsonl:2"},
       BadData{"repeated_key", "chat", "x.jsonl", after_good("{\"messages\": 1, \"messages\": 2}"),
               "appears twice", "x.jsonl:2"},
       BadData{"not_utf8", "chat", "x.jsonl", after_good("{\"messages\": \"\xFF\"}"),
               "not valid JSON", "x.jsonl:2"},
       BadData{"broken_array", "chat", "x.json", "[\n" + kGoodChat + ",\n{]", "not valid JSON",
               "x.json:3"},
       BadData{"line_is_a_list", "chat", "x.jsonl", after_good("[1]"), "not an object",
               "x.jsonl:2"},
       BadData{"padding_without_length", "chat", "x.jsonl", kGoodChat, "needs a length",
               "@the dataset's section", table_of({{"padding", "max_length"}})},
       BadData{"length_without_use", "chat", "x.jsonl", kGoodChat, "does nothing",
               "@the dataset's section", table_of({{"seq_length", 8}})}});
}

TEST(BadData, ConversationsAreRefusedWithTheirPlace) {
  expect_refused(
      {BadData{"no_messages", "chat", "x.jsonl", after_good("{\"message\": []}"), "no conversation",
               "x.jsonl:2"},
       BadData{"messages_no_list", "chat", "x.jsonl", after_good("{\"messages\": \"a\"}"),
               "no list", "x.jsonl:2"},
       BadData{"empty_conversation", "chat", "x.jsonl", one_message(""), "is empty", "x.jsonl:2"},
       BadData{"message_no_table", "chat", "x.jsonl", one_message("\"a\""),
               "messages[0] is no table", "x.jsonl:2"},
       BadData{"no_role", "chat", "x.jsonl", one_message(R"({"content": "a"})"),
               "messages[0] has no 'role'", "x.jsonl:2"},
       BadData{"unknown_role", "chat", "x.jsonl",
               one_message(R"({"role": "asistant", "content": "a"})"), "unknown role", "x.jsonl:2"},
       BadData{"role_no_text", "chat", "x.jsonl", one_message(R"({"role": 1, "content": "a"})"),
               "unknown role", "x.jsonl:2"},
       BadData{"no_content", "chat", "x.jsonl", one_message(R"({"role": "user"})"),
               "has no 'content'", "x.jsonl:2"},
       BadData{"content_number", "chat", "x.jsonl",
               one_message(R"({"role": "user", "content": 5})"), "not text", "x.jsonl:2"},
       BadData{"content_image", "chat", "x.jsonl",
               one_message(R"({"role": "user", "content": [{"type": "image_url"}]})"), "not text",
               "x.jsonl:2"},
       BadData{"no_answer", "chat", "x.jsonl", one_message(R"({"role": "user", "content": "a"})"),
               "no answer", "x.jsonl:2"},
       BadData{"unknown_speaker", "chat", "x.jsonl",
               after_good(R"({"conversations": [{"from": "alien", "value": "a"}]})"),
               "conversations[0] has an unknown speaker", "x.jsonl:2"},
       BadData{"no_value", "chat", "x.jsonl", after_good(R"({"conversations": [{"from": "gpt"}]})"),
               "has no 'value'", "x.jsonl:2"},
       BadData{"tools_number", "chat", "x.jsonl",
               after_good(R"({"tools": 1, "messages": [{"role": "assistant", "content": "a"}]})"),
               "'tools' is no list", "x.jsonl:2"},
       BadData{"tools_no_json", "chat", "x.jsonl",
               after_good(R"({"tools": "[", "messages": [{"role": "assistant", "content": "a"}]})"),
               "but not JSON", "x.jsonl:2"},
       BadData{"tool_calls_no_list", "chat", "x.jsonl",
               one_message(R"({"role": "assistant", "content": "", "tool_calls": 1})"), "no list",
               "x.jsonl:2"}});
}

TEST(BadData, QuestionsAreRefusedWithTheirPlace) {
  expect_refused(
      {BadData{"no_context", "squad", "x.jsonl", R"({"question": "q", "answers": {"text": ["a"]}})",
               "no 'context'", "x.jsonl:1"},
       BadData{"question_null", "squad", "x.jsonl",
               R"({"context": "c", "question": null, "answers": {"text": ["a"]}})", "not text",
               "x.jsonl:1"},
       BadData{"no_answers", "squad", "x.json", "[" + answers("{\"text\": []}") + "]", "no answer",
               "x.json:1"},
       BadData{"answer_number", "squad", "x.json", "[\n" + answers("{\"text\": [3]}") + "]",
               "answer is not text", "x.json:2"},
       BadData{"answers_text", "squad", "x.json", "[" + answers("\"a\"") + "]", "wrong type",
               "x.json:1"},
       BadData{"blank_answer", "squad", "x.json", "[" + answers("[{\"text\": \" \"}]") + "]",
               "no answer", "x.json:1"},
       BadData{"data_no_list", "squad", "x.json", "{\"data\": 1}", "'data' has the wrong type",
               "x.json:1"},
       BadData{"no_paragraphs", "squad", "x.json", "{\"data\":\n[{}]}", "no 'paragraphs'",
               "x.json:2"},
       BadData{"paragraph_number", "squad", "x.json", article("[1]"), "no object", "x.json:3"},
       BadData{"context_missing", "squad", "x.json", article("[\n{\"qas\": []}]"), "no 'context'",
               "x.json:4"},
       BadData{"no_questions", "squad", "x.json", article("[]"), "no questions", "x.json"},
       BadData{"question_number", "squad", "x.json",
               article("[{\"context\": \"c\", \"qas\": [1]}]"), "no object", "x.json:3"},
       BadData{
           "nested_without_answer", "squad", "x.json",
           article("[{\"context\": \"c\", \"qas\": [\n{\"question\": \"q\", \"answers\": []}]}]"),
           "no answer", "x.json:4"}});
}

TEST(BadData, RowsAreRefusedWithTheirPlace) {
  expect_refused(
      {BadData{"missing_column", "column_mapped", "x.csv", "question,a\nx,y\n", "no 'q'", "x.csv:2",
               columns()},
       BadData{"missing_json_column", "column_mapped", "x.jsonl",
               "{\"q\": \"x\", \"a\": \"y\"}\n{\"q\": \"x\"}\n", "no 'a'", "x.jsonl:2", columns()},
       BadData{"ragged_row", "column_mapped", "x.csv", "q,a\nx,y\nx\n", "another number of fields",
               "x.csv:3", columns()},
       BadData{"long_row", "column_mapped", "x.csv", "q,a\n\"x\ny\",y\nx,y,z\n",
               "another number of fields", "x.csv:4", columns()},
       BadData{"open_quote", "column_mapped", "x.csv", "q,a\nx,y\nx,\"y\n", "no end", "x.csv:3",
               columns()},
       BadData{"text_after_quote", "column_mapped", "x.csv", "q,a\n\"x\"z,y\n",
               "follows a quoted field", "x.csv:2", columns()},
       BadData{"no_rows", "column_mapped", "x.csv", "q,a\n", "no records", "x.csv", columns()},
       BadData{"empty_csv", "column_mapped", "x.csv", "\n", "is empty", "x.csv", columns()},
       BadData{"latin1", "column_mapped", "x.csv", "q,a\nx,y\nx,\xE9\n", "not UTF-8", "x.csv:3",
               columns()},
       BadData{"repeated_column", "column_mapped", "x.csv", "q,a,q\nx,y,z\n", "same name",
               "x.csv:1", columns()},
       BadData{"empty_answer", "column_mapped", "x.csv", "q,a\nx,\n", "no answer", "x.csv:2",
               columns()},
       BadData{"answer_number", "column_mapped", "x.jsonl", "{\"q\": \"x\", \"a\": 1}", "not text",
               "x.jsonl:1", columns()},
       BadData{"answer_null", "column_mapped", "x.jsonl", "{\"q\": \"x\", \"a\": null}", "not text",
               "x.jsonl:1", columns()},
       BadData{"no_prompt", "column_mapped", "x.jsonl", "{\"q\": null, \"a\": \"y\"}", "no prompt",
               "x.jsonl:1", columns()},
       BadData{"long_delimiter", "column_mapped", "x.csv", "q,a\nx,y\n", "not one character",
               "@delimiter", columns_and("delimiter", "::")},
       BadData{"answer_alone", "column_mapped", "x.csv", "q,a\nx,y\n", "no column for the prompt",
               "@column_mapping", table_of({{"column_mapping", table_of({{"answer", "a"}})}})}});
}

std::string error_text(const std::string& type, const Table& config,
                       const DatasetContext& context) {
  try {
    open_dataset(type, config, context);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(BadRecords, TheFirstTenAreSaidAndTheOthersCounted) {
  const testing::TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 30; ++i)
    lines += "{\"messages\": [{\"role\": \"r" + std::to_string(i) + "\", \"content\": \"\"}]}\n";
  const std::string text = error_text("chat", table_of({{"path", folder.write("x.jsonl", lines)}}),
                                      text_context("qwen2"));
  EXPECT_NE(text.find("x.jsonl:1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("x.jsonl:10\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("x.jsonl:11"), std::string::npos) << text;
  EXPECT_NE(text.find("20 further records are wrong too"), std::string::npos) << text;
}

TEST(BadRecords, AMistakeOfEachRecordIsSaidOnce) {
  const testing::TemporaryFolder folder;
  std::string rows = "text,a\n";
  for (int i = 0; i < 5000; ++i) rows += "x,y\n";
  Table config = columns();
  config.set("path", folder.write("x.csv", rows));
  const std::string text = error_text("column_mapped", config, text_context("qwen2"));
  EXPECT_EQ(text.find("no 'q'"), text.rfind("no 'q'")) << text;
  EXPECT_NE(text.find("x.csv:2"), std::string::npos) << text;
  EXPECT_NE(text.find("further records are wrong too"), std::string::npos) << text;
}

TEST(BadRecords, WhatTheModelLacksIsSaidAtOnce) {
  const testing::TemporaryFolder folder;
  const Table config = table_of({{"path", folder.write("x.jsonl", kGoodChat)}});
  DatasetContext context = text_context("qwen2");
  context.chat_template = nullptr;
  EXPECT_NE(error_text("chat", config, context).find("no chat template"), std::string::npos);
  context.tokenizer = nullptr;
  EXPECT_NE(error_text("chat", config, context).find("no tokenizer"), std::string::npos);
}

TEST(BadRecords, WhatATemplateRaisesNamesTheRecord) {
  const testing::TemporaryFolder folder;
  const Table config = table_of({{"path", folder.write("x.jsonl", kGoodChat)}});
  const std::string text =
      error_text("chat", config, text_context("qwen2", "{{ raise_exception('no users here') }}"));
  EXPECT_NE(text.find("no users here"), std::string::npos) << text;
  EXPECT_NE(text.find("x.jsonl:1"), std::string::npos) << text;
}

TEST(BadRecords, AnEmptyAnswerIsTakenWhereTheRecipeSaysSo) {
  const testing::TemporaryFolder folder;
  Table config = table_of(
      {{"path", folder.write("x.json", "[" + answers("[]") + "]")}, {"allow_empty_answers", true}});
  const auto dataset = open_dataset("squad", config, text_context("qwen2"));
  EXPECT_EQ(dataset->size(), 1);
}

}  // namespace
}  // namespace espalier
