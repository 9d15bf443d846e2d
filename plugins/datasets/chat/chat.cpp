// Conversations in OpenAI's or ShareGPT's layout, rendered by the model's chat template.
#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/conversation.h"
#include "espalier/data/conversation_tokenizer.h"
#include "espalier/data/json_records.h"
#include "espalier/data/record_dataset.h"
#include "espalier/data/source_files.h"
#include "espalier/sdk/batch.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct ChatConfig : RecordDatasetConfig {
  std::string mask = "assistant";
  bool mask_reasoning_content = false;
  bool skip_invalid_samples = false;

  static ConfigSchema<ChatConfig> schema() {
    return std::move(
        record_dataset_schema<ChatConfig>()
            .field("mask", &ChatConfig::mask,
                   "what is learnt: all that the assistant says, the last thing that "
                   "it says, or all text")
            .one_of({"assistant", "last_assistant", "all"})
            .field("mask_reasoning_content", &ChatConfig::mask_reasoning_content,
                   "do not learn the tokens that are there for a message's reasoning_content alone")
            .field("skip_invalid_samples", &ChatConfig::skip_invalid_samples,
                   "leave out lines of JSON Lines files that are no JSON, instead of refusing the "
                   "file; a note says how many"));
  }
};

LossMask mask_of(const std::string& name) {
  if (name == "all") return LossMask::kAll;
  return name == "assistant" ? LossMask::kAssistant : LossMask::kLastAssistant;
}

/// The lines of a file that are JSON objects.
class ValidLines final : public RecordSource {
 public:
  explicit ValidLines(DataFile file) : file_(std::move(file)) {
    const std::string_view text = file_.text();
    std::size_t line = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      ++line;
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view content = text.substr(begin, end - begin);
      begin = end + 1;
      if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      if (is_object(content, line))
        lines_.emplace_back(content, line);
      else
        ++skipped_;
    }
  }

  std::int64_t size() const override { return std::ssize(lines_); }
  Value record(std::int64_t index) const override {
    const auto& [text, line] = lines_[static_cast<std::size_t>(index)];
    return parse_record(text, file_.path(), line);
  }
  std::string where(std::int64_t index) const override {
    return file_.path() + ":" + std::to_string(lines_[static_cast<std::size_t>(index)].second);
  }
  std::int64_t skipped() const { return skipped_; }

 private:
  bool is_object(std::string_view text, std::size_t line) const {
    try {
      return parse_record(text, file_.path(), line).is_table();
    } catch (const Error&) {
      return false;  // this is what is asked for
    }
  }

  DataFile file_;
  std::vector<std::pair<std::string_view, std::size_t>> lines_;
  std::int64_t skipped_ = 0;
};

class Chat final : public RecordDataset {
 public:
  using Config = ChatConfig;

  explicit Chat(const ChatConfig& config)
      : RecordDataset(config),
        mask_(mask_of(config.mask)),
        mask_reasoning_(config.mask_reasoning_content),
        skip_invalid_(config.skip_invalid_samples) {}

 private:
  void prepare(const DatasetContext& context) override {
    tokenizer_ = std::make_unique<ConversationTokenizer>(context, mask_);
    note_ = context.note;
  }

  std::shared_ptr<const RecordSource> open_file(const std::string& path) const override {
    const std::string name = content_name(path);
    if (!skip_invalid_ || !(name.ends_with(".jsonl") || name.ends_with(".json")))
      return RecordDataset::open_file(path);
    auto lines = std::make_shared<ValidLines>(DataFile(path));
    if (lines->skipped() > 0 && note_)
      note_(path + ": " + std::to_string(lines->skipped()) + " lines are no JSON and left out");
    return lines;
  }

  void check(const Value& record) const override { tokenizer_->check(read_conversation(record)); }

  Sample encode(const Value& record) const override {
    const Conversation conversation = read_conversation(record);
    Sample sample = tokenizer_->encode(conversation);
    if (mask_reasoning_) mask_reasoning(conversation, sample);
    return sample;
  }

  /// Without the reasoning of one message at a time: what then is missing between the equal
  /// beginning and the equal end is there because of it.
  void mask_reasoning(const Conversation& conversation, Sample& sample) const {
    const Array& messages = conversation.messages.as_array();
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const Value* reasoning = messages[i].find("reasoning_content");
      if (reasoning == nullptr || !reasoning->is_string() || reasoning->as_string().empty())
        continue;
      Conversation without = conversation;
      without.messages.as_array()[i].as_table().erase("reasoning_content");
      if (messages[i].find("content") == nullptr)
        without.messages.as_array()[i].as_table().set("content", "");
      const std::vector<std::int64_t> shorter = tokenizer_->encode(without).input_ids;
      const std::vector<std::int64_t>& ids = sample.input_ids;
      const auto begin =
          std::mismatch(ids.begin(), ids.end(), shorter.begin(), shorter.end()).first;
      const auto equal_end = std::mismatch(ids.rbegin(), std::make_reverse_iterator(begin),
                                           shorter.rbegin(), shorter.rend() - (begin - ids.begin()))
                                 .first;
      std::fill(sample.labels.begin() + (begin - ids.begin()),
                sample.labels.begin() + (equal_end.base() - ids.begin()), kIgnoredLabel);
    }
  }

  LossMask mask_;
  bool mask_reasoning_;
  bool skip_invalid_;
  std::function<void(const std::string&)> note_;
  std::unique_ptr<const ConversationTokenizer> tokenizer_;
};

void register_components(Registrar& registrar) {
  registrar.add<Dataset, Chat>("chat", "conversations in JSON Lines, rendered by the chat template")
      .property("recognises", parse_json(R"([{"fields": ["messages"]},
       {"fields": ["conversations"]}])"))
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
