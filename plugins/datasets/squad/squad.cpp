// Questions about a text: SQuAD v1.1 as it is published (articles of paragraphs of questions), or
// flattened to one record a question.
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/json_records.h"
#include "espalier/data/prompt_answer.h"
#include "espalier/data/record_files.h"
#include "espalier/data/source_files.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// The questions of a published file, each with the context of its paragraph.
class SquadArticles final : public RecordSource {
 public:
  explicit SquadArticles(JsonFile file)
      : file_(std::move(file)), counted_(file_.records().front().text.data()) {
    line_ = file_.records().front().line;
    const std::string_view articles = member(file_.records().front().text, "data", '[');
    for (const std::string_view article : json_items(articles)) {
      for (const std::string_view paragraph : json_items(member(article, "paragraphs", '['))) {
        const std::string_view context = member(paragraph, "context", '"');
        for (const std::string_view question : json_items(member(paragraph, "qas", '['))) {
          line_ += static_cast<std::size_t>(
              std::count(counted_, std::max(counted_, question.data()), '\n'));
          counted_ = std::max(counted_, question.data());
          questions_.push_back({context, question, line_});
        }
      }
    }
    if (questions_.empty())
      throw_bad_input("the file has no questions", {}, "at least one", file_.path());
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(questions_.size()); }
  Value record(std::int64_t index) const override {
    const Question& question = questions_[static_cast<std::size_t>(index)];
    Value record = file_.parse(question.text, question.line);
    if (!record.is_table())
      throw_bad_input("a question is no object", {}, "an object", where(index));
    record.as_table().set("context", file_.parse(question.context, question.line));
    return record;
  }
  std::string where(std::int64_t index) const override {
    return file_.path() + ":" + std::to_string(questions_[static_cast<std::size_t>(index)].line);
  }

 private:
  struct Question {
    std::string_view context;
    std::string_view text;
    std::size_t line = 0;
  };

  /// The text of a member, which begins with `opening`: '[' for a list, '"' for text.
  std::string_view member(std::string_view object, std::string_view name, char opening) const {
    if (object.front() != '{') refuse("a part of the file is no object", object, name, opening);
    for (const auto& [key, value] : json_members(object)) {
      if (key != name) continue;
      if (value.front() == opening) return value;
      refuse("'" + std::string(name) + "' has the wrong type", value, name, opening);
    }
    refuse("an object has no '" + std::string(name) + "'", object, name, opening);
  }

  [[noreturn]] void refuse(std::string what, std::string_view found, std::string_view name,
                           char opening) const {
    throw_bad_input(
        std::move(what), std::string(found.substr(0, found.find('\n')).substr(0, 60)),
        std::string(opening == '[' ? "a list" : "text") + " '" + std::string(name) + "'",
        file_.path() + ":" + std::to_string(file_.line_of(found)),
        "a SQuAD file is {\"data\": [{\"paragraphs\": [{\"context\": ..., \"qas\": [...]}]}]}");
  }

  JsonFile file_;
  std::vector<Question> questions_;
  const char* counted_;
  std::size_t line_ = 1;
};

bool holds_articles(const JsonFile& file) {
  if (file.records().size() != 1) return false;
  const std::string_view text = file.records().front().text;
  if (text.front() != '{') return false;
  for (const auto& [key, value] : json_members(text)) {
    if (key == "data") return true;
  }
  return false;
}

/// The first answer: of [{"text": ...}, ...] as published, or of {"text": [...]} as in flat files.
/// Null: there is none.
const Value* first_answer(const Value& record) {
  const Value& answers = require_member(record, "answers");
  const Value* texts = answers.is_table() ? answers.find("text") : &answers;
  if (texts == nullptr || !texts->is_array()) {
    throw_bad_input("'answers' of a record has the wrong type",
                    std::string(type_phrase(answers.type())),
                    "{\"text\": [\"...\"], ...} or [{\"text\": \"...\", ...}]", {});
  }
  if (texts->as_array().empty()) return nullptr;
  const Value& first = texts->as_array().front();
  return answers.is_table() ? &first : &require_member(first, "text");
}

class Squad final : public RecordDataset {
 public:
  struct Config : PromptAnswerConfig {
    static ConfigSchema<Config> schema() { return prompt_answer_schema<Config>(); }
  };

  explicit Squad(const Config& config) : RecordDataset(config), config_(config) {}

 private:
  void prepare(const DatasetContext& context) override {
    tokenizer_ = std::make_unique<PromptTokenizer>(context, config_);
  }

  std::shared_ptr<const RecordSource> open_file(const std::string& path) const override {
    const std::string name = content_name(path);
    for (const char* ending : {".csv", ".tsv", ".parquet"}) {
      if (name.ends_with(ending)) return open_records(path);
    }
    JsonFile file(path);
    if (holds_articles(file)) return std::make_shared<SquadArticles>(std::move(file));
    return json_records(std::move(file));
  }

  void check(const Value& record) const override { read(record); }

  Sample encode(const Value& record) const override {
    const PromptAnswer text = read(record);
    if (!config_.use_chat_template) return tokenizer_->encode(text);
    return tokenizer_->encode(
        question_and_answer({{"user", text.prompt + " "}, {"assistant", text.answer}}));
  }

  PromptAnswer read(const Value& record) const {
    PromptAnswer text;
    text.prompt = "Context: " + require_text(record, "context") +
                  " Question: " + require_text(record, "question") + " Answer:";
    if (const Value* answer = first_answer(record)) {
      if (!answer->is_string()) {
        throw_bad_input("an answer is not text", std::string(type_phrase(answer->type())),
                        "a string", {});
      }
      text.answer = stripped(answer->as_string());
    }
    require_answer(text.answer, config_);
    return text;
  }

  Config config_;
  std::unique_ptr<const PromptTokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, Squad>("squad", "questions about a text with answers from it, as in SQuAD v1.1")
      .property("recognises", parse_json(R"([{"fields": ["context", "question", "answers"]},
       {"fields": ["data"]}])"))
      .alias("nemo_automodel.components.datasets.llm.squad.make_squad_dataset", parse_json(R"({
          "": {"use_chat_template": "@has_chat_template", "path": "squad"},
          "dataset_name": "path", "fp8": {"note": "it has no effect there either"},
          "padding": {"values": {"false": "longest", "true": "longest",
                 "\"longest\"": "longest", "\"max_length\"": "max_length"}}})")
                                                                                    .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.squad", "0.1.0", espalier::register_components)
