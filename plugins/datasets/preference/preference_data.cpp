// Answers that people prefer or not, rendered by the model's chat template. In pairs, a sample is
// two documents, the chosen conversation and the rejected one; one by one, a sample is a
// conversation and whether its answer is good. The answers are labelled.
#include <algorithm>
#include <optional>
#include <string_view>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/conversation.h"
#include "espalier/data/conversation_tokenizer.h"
#include "espalier/data/record_dataset.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct PreferenceConfig : RecordDatasetConfig {
  std::optional<std::int64_t> max_length;

  static ConfigSchema<PreferenceConfig> schema() {
    return std::move(with_record_files(ConfigSchema<PreferenceConfig>())
                         .field("max_length", &PreferenceConfig::max_length,
                                "tokens that each of the two conversations is cut to")
                         .at_least(2));
  }
};

Array messages_of(const Value* value, const char* role) {
  if (value == nullptr || value->is_null()) return {};
  if (value->is_array()) return value->as_array();
  Table message;
  message.set("role", role);
  message.set("content", value->as_string());
  return {Value(std::move(message))};
}

/// The conversation that ends in one of the answers. `prompt` is a list of messages, a text, or
/// absent where the answers are whole conversations; an answer is a list of messages or a text.
/// `what` and `expected` are for the message where there is none.
Conversation conversation_with(const Value& record, const char* answer, const char* what,
                               const char* expected) {
  const Value* value = record.find(answer);
  const bool given =
      value != nullptr && (value->is_array() ? !value->as_array().empty() : value->is_string());
  if (!given) {
    throw_bad_input(std::string("the ") + what + " has no '" + answer + "'" +
                        (std::string_view(answer) == "completion" ? "" : " answer"),
                    value == nullptr ? "" : std::string(type_phrase(value->type())), expected,
                    record.position().to_string());
  }
  Array messages = messages_of(record.find("prompt"), "user");
  for (Value& message : messages_of(value, "assistant")) messages.push_back(std::move(message));
  Table table;
  table.set("messages", std::move(messages));
  if (const Value* tools = record.find("tools")) table.set("tools", *tools);
  return read_conversation(table);
}

/// Conversations that end in an answer.
class AnswerDataset : public RecordDataset {
 protected:
  explicit AnswerDataset(const PreferenceConfig& config)
      : RecordDataset(config), max_length_(config.max_length) {}

  void prepare(const DatasetContext& context) override {
    tokenizer_ = std::make_unique<ConversationTokenizer>(context, LossMask::kLastAssistant);
  }
  void check_conversation(const Conversation& conversation) const {
    tokenizer_->check(conversation);
  }
  Sample encode_conversation(const Conversation& conversation) const {
    Sample sample = tokenizer_->encode(conversation);
    if (max_length_ && static_cast<std::int64_t>(sample.input_ids.size()) > *max_length_) {
      sample.input_ids.resize(static_cast<std::size_t>(*max_length_));
      sample.labels.resize(static_cast<std::size_t>(*max_length_));
    }
    return sample;
  }

 private:
  std::optional<std::int64_t> max_length_;
  std::unique_ptr<const ConversationTokenizer> tokenizer_;
};

class Preference final : public AnswerDataset {
 public:
  using Config = PreferenceConfig;
  explicit Preference(const PreferenceConfig& config) : AnswerDataset(config) {}

 private:
  static Conversation conversation(const Value& record, const char* answer) {
    return conversation_with(record, answer, "pair",
                             "'chosen' and 'rejected', each a text or a list of messages");
  }
  void check(const Value& record) const override {
    for (const char* answer : {"chosen", "rejected"})
      check_conversation(conversation(record, answer));
  }
  Sample encode(const Value& record) const override {
    Sample pair = encode_conversation(conversation(record, "chosen"));
    const Sample rejected = encode_conversation(conversation(record, "rejected"));
    pair.document_starts = {0, static_cast<std::int64_t>(pair.input_ids.size())};
    pair.input_ids.insert(pair.input_ids.end(), rejected.input_ids.begin(),
                          rejected.input_ids.end());
    pair.labels.insert(pair.labels.end(), rejected.labels.begin(), rejected.labels.end());
    return pair;
  }
};

class UnpairedPreference final : public AnswerDataset {
 public:
  using Config = PreferenceConfig;
  explicit UnpairedPreference(const PreferenceConfig& config) : AnswerDataset(config) {}

 private:
  static bool is_good(const Value& record) {
    const Value* label = record.find("label");
    if (label != nullptr && label->is_bool()) return label->as_bool();
    if (label != nullptr && label->is_int() && (label->as_int() == 0 || label->as_int() == 1))
      return label->as_int() == 1;
    throw_bad_input("the answer is not marked as good or bad",
                    label == nullptr ? "no 'label'" : std::string(type_phrase(label->type())),
                    "'label': true or false", record.position().to_string());
  }
  static Conversation conversation(const Value& record) {
    return conversation_with(record, "completion", "record",
                             "'completion', a text or a list of messages, and 'label'");
  }
  void check(const Value& record) const override {
    is_good(record);
    check_conversation(conversation(record));
  }
  Sample encode(const Value& record) const override {
    Sample sample = encode_conversation(conversation(record));
    sample.numbers = {{"desirable", is_good(record) ? 1.0 : 0.0}};
    return sample;
  }
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, Preference>(
          "preference", "pairs of a chosen and a rejected answer, rendered by the chat template")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["chosen", "rejected"], "adapter": true, "sections": {"objective": {"type": "dpo"}}}])"));
  registrar.add<Dataset, UnpairedPreference>(
      "unpaired_preference", "answers that are marked good or bad, rendered by the chat template");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.preference_data", "0.1.0", espalier::register_components)
