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
      .property("recognises", parse_json(R"([{"fields": ["messages"]},
       {"fields": ["conversations"]}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.chat", "0.1.0", espalier::register_components)
