// Conversations in OpenAI's or ShareGPT's layout, rendered by the model's chat template.
#include "espalier/base/json.h"
#include "espalier/data/conversation.h"
#include "espalier/data/conversation_tokenizer.h"
#include "espalier/data/record_dataset.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct ChatConfig : RecordDatasetConfig {
  std::string mask = "assistant";

  static ConfigSchema<ChatConfig> schema() {
    return std::move(record_dataset_schema<ChatConfig>()
                         .field("mask", &ChatConfig::mask,
                                "what is learnt: all that the assistant says, the last thing that "
                                "it says, or all text")
                         .one_of({"assistant", "last_assistant", "all"}));
  }
};

LossMask mask_of(const std::string& name) {
  if (name == "all") return LossMask::kAll;
  return name == "assistant" ? LossMask::kAssistant : LossMask::kLastAssistant;
}

class Chat final : public RecordDataset {
 public:
  using Config = ChatConfig;

  explicit Chat(const ChatConfig& config) : RecordDataset(config), mask_(mask_of(config.mask)) {}

 private:
  void prepare(const DatasetContext& context) override {
    tokenizer_ = std::make_unique<ConversationTokenizer>(context, mask_);
  }
  void check(const Value& record) const override { tokenizer_->check(read_conversation(record)); }
  Sample encode(const Value& record) const override {
    return tokenizer_->encode(read_conversation(record));
  }

  LossMask mask_;
  std::unique_ptr<const ConversationTokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar.add<Dataset, Chat>("chat", "conversations in JSON Lines, rendered by the chat template")
      .alias("nemo_automodel.components.datasets.llm.chat_dataset.ChatDataset", parse_json(R"({
          "path_or_dataset_id": "path",
          "mask_history": {"as": "mask", "values": {"true": "last_assistant", "false": null}},
          "train_on_last_turn_only": {"as": "mask", "values": {"true": "last_assistant",
                                                               "false": null}},
          "answer_only_loss_mask": {"as": "mask", "values": {"true": null, "false": "all"}},
          "start_of_turn_token": {"note": "it is read nowhere there either"},
          "padding": {"values": {"false": "longest", "true": "longest",
                 "\"longest\"": "longest", "\"max_length\"": "max_length"}}})")
                                                                                    .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.chat", "0.1.0", espalier::register_components)
