// Pairs of answers to the same conversation, rendered by the model's chat template. A sample is two
// documents, the chosen conversation and the rejected one; the answer of each is labelled.
#include <algorithm>
#include <optional>

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
Conversation conversation_with(const Value& record, const char* answer) {
  const Value* value = record.find(answer);
  const bool given =
      value != nullptr && (value->is_array() ? !value->as_array().empty() : value->is_string());
  if (!given) {
    throw_bad_input(std::string("the pair has no '") + answer + "' answer",
                    value == nullptr ? "" : std::string(type_phrase(value->type())),
                    "'chosen' and 'rejected', each a text or a list of messages",
                    record.position().to_string());
  }
  Array messages = messages_of(record.find("prompt"), "user");
  for (Value& message : messages_of(value, "assistant")) messages.push_back(std::move(message));
  Table table;
  table.set("messages", std::move(messages));
  if (const Value* tools = record.find("tools")) table.set("tools", *tools);
  return read_conversation(table);
}

class Preference final : public RecordDataset {
 public:
  using Config = PreferenceConfig;
  explicit Preference(const PreferenceConfig& config)
      : RecordDataset(config), max_length_(config.max_length) {}

 private:
  void prepare(const DatasetContext& context) override {
    tokenizer_ = std::make_unique<ConversationTokenizer>(context, LossMask::kLastAssistant);
  }
  void check(const Value& record) const override {
    for (const char* answer : {"chosen", "rejected"})
      tokenizer_->check(conversation_with(record, answer));
  }

  Sample encode(const Value& record) const override {
    Sample pair = encode_answer(record, "chosen");
    const Sample rejected = encode_answer(record, "rejected");
    pair.document_starts = {0, static_cast<std::int64_t>(pair.input_ids.size())};
    pair.input_ids.insert(pair.input_ids.end(), rejected.input_ids.begin(),
                          rejected.input_ids.end());
    pair.labels.insert(pair.labels.end(), rejected.labels.begin(), rejected.labels.end());
    return pair;
  }

  Sample encode_answer(const Value& record, const char* answer) const {
    Sample sample = tokenizer_->encode(conversation_with(record, answer));
    if (max_length_ && static_cast<std::int64_t>(sample.input_ids.size()) > *max_length_) {
      sample.input_ids.resize(static_cast<std::size_t>(*max_length_));
      sample.labels.resize(static_cast<std::size_t>(*max_length_));
    }
    return sample;
  }

  std::optional<std::int64_t> max_length_;
  std::unique_ptr<const ConversationTokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, Preference>(
          "preference", "pairs of a chosen and a rejected answer, rendered by the chat template")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["chosen", "rejected"], "adapter": true, "sections": {"objective": {"type": "dpo"}}}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.preference_data", "0.1.0", espalier::register_components)
