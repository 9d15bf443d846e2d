// Instructions and answers from any columns of JSON or CSV files.
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/prompt_answer.h"
#include "espalier/data/record_files.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct ColumnMapping {
  std::optional<std::string> context;
  std::optional<std::string> question;
  std::string answer;

  static ConfigSchema<ColumnMapping> schema() {
    return ConfigSchema<ColumnMapping>()
        .field("context", &ColumnMapping::context,
               "column that begins the prompt; the system message in a chat")
        .field("question", &ColumnMapping::question,
               "column that ends the prompt; the user's message in a chat")
        .field("answer", &ColumnMapping::answer, "column of the answer")
        .required();
  }
};

class ColumnMapped final : public RecordDataset {
 public:
  struct Config : PromptAnswerConfig {
    ColumnMapping column_mapping;
    std::optional<std::string> delimiter;

    static ConfigSchema<Config> schema() {
      return std::move(prompt_answer_schema<Config>()
                           .field("column_mapping", &Config::column_mapping,
                                  "the columns that context, question and answer are in; context "
                                  "or question may be left out")
                           .required()
                           .field("delimiter", &Config::delimiter,
                                  "what parts the fields of a CSV file; left out: a tab in .tsv "
                                  "files, a comma in others"));
    }
  };

  explicit ColumnMapped(const Config& config) : RecordDataset(config), config_(config) {}

 private:
  void prepare(const DatasetContext& context) override {
    const ColumnMapping& mapping = config_.column_mapping;
    if (!mapping.context && !mapping.question) {
      throw_bad_input("column_mapping names no column for the prompt", "answer alone",
                      "context, question or both", "column_mapping",
                      "add question = \"...\" to it");
    }
    if (config_.delimiter && config_.delimiter->size() != 1) {
      throw_bad_input("the delimiter is not one character", "'" + *config_.delimiter + "'",
                      "one ASCII character", "delimiter");
    }
    tokenizer_ = std::make_unique<PromptTokenizer>(context, config_);
  }

  std::shared_ptr<const RecordSource> open_file(const std::string& path) const override {
    return open_records(
        path, config_.delimiter ? std::optional(config_.delimiter->front()) : std::nullopt);
  }

  void check(const Value& record) const override { read(record); }

  Sample encode(const Value& record) const override {
    const Columns columns = read(record);
    if (config_.use_chat_template) {
      std::vector<Turn> turns;
      if (columns.context != nullptr) turns.push_back({"system", *columns.context});
      if (columns.question != nullptr) turns.push_back({"user", *columns.question});
      turns.push_back({"assistant", *columns.answer});
      return tokenizer_->encode(question_and_answer(turns));
    }
    PromptAnswer text;
    for (const std::string* part : {columns.context, columns.question}) {
      if (part == nullptr) continue;
      if (part == columns.question && columns.context != nullptr) text.prompt += ' ';
      text.prompt += *part;
    }
    text.answer = *columns.answer;
    return tokenizer_->encode(text);
  }

  struct Columns {
    const std::string* context = nullptr;   ///< null: not mapped, or null in this record
    const std::string* question = nullptr;  ///< the same
    const std::string* answer = nullptr;
  };

  /// Points into `record`.
  Columns read(const Value& record) const {
    const ColumnMapping& mapping = config_.column_mapping;
    Columns columns;
    columns.context = prompt_column(record, mapping.context);
    columns.question = prompt_column(record, mapping.question);
    columns.answer = &require_text(record, mapping.answer);
    if (columns.context == nullptr && columns.question == nullptr) {
      throw_bad_input("a record has no prompt", "null in each column of the prompt",
                      "text in one of them", {});
    }
    require_answer(*columns.answer, config_);
    return columns;
  }

  static const std::string* prompt_column(const Value& record,
                                          const std::optional<std::string>& column) {
    if (!column || require_member(record, *column).is_null()) return nullptr;
    return &require_text(record, *column);
  }

  Config config_;
  std::unique_ptr<const PromptTokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, ColumnMapped>("column_mapped",
                                  "prompts and answers from named columns of JSON or CSV files")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["instruction", "input", "output"], "settings": {"path": "{path}", "column_mapping": {"context": "instruction", "question": "input", "answer": "output"}}},
       {"fields": ["instruction", "output"], "settings": {"path": "{path}", "column_mapping": {"question": "instruction", "answer": "output"}}},
       {"fields": ["instruction", "response"], "settings": {"path": "{path}", "column_mapping": {"question": "instruction", "answer": "response"}}},
       {"fields": ["instruction", "context", "response"], "settings": {"path": "{path}", "column_mapping": {"context": "context", "question": "instruction", "answer": "response"}}},
       {"fields": ["prompt", "completion"], "settings": {"path": "{path}", "column_mapping": {"question": "prompt", "answer": "completion"}}},
       {"fields": ["prompt", "response"], "settings": {"path": "{path}", "column_mapping": {"question": "prompt", "answer": "response"}}},
       {"fields": ["question", "answer"], "settings": {"path": "{path}", "column_mapping": {"question": "question", "answer": "answer"}}},
       {"fields": ["query", "response"], "settings": {"path": "{path}", "column_mapping": {"question": "query", "answer": "response"}}},
       {"fields": ["input", "output"], "settings": {"path": "{path}", "column_mapping": {"question": "input", "answer": "output"}}}])"))
      .alias(
          "nemo_automodel.components.datasets.llm.column_mapped_text_instruction_dataset."
          "ColumnMappedTextInstructionDataset",
          parse_json(R"({
          "path_or_dataset_id": "path", "use_hf_chat_template": "use_chat_template",
          "padding": {"values": {"false": "longest", "true": "longest",
                 "\"longest\"": "longest", "\"max_length\"": "max_length"}}})")
              .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.column_mapped", "0.1.0", espalier::register_components)
