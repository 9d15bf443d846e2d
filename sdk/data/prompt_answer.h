#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/data/conversation_tokenizer.h"
#include "espalier/data/record_dataset.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// The keys of datasets of questions and answers; for configs to derive from.
struct PromptAnswerConfig : RecordDatasetConfig {
  bool answer_only_loss_mask = true;
  std::string tokenization = "joined";
  bool use_chat_template = false;
  bool allow_empty_answers = false;
};

template <std::derived_from<PromptAnswerConfig> Config>
ConfigSchema<Config> prompt_answer_schema() {
  return std::move(
      record_dataset_schema<Config>()
          .field("answer_only_loss_mask", &PromptAnswerConfig::answer_only_loss_mask,
                 "learn the answer alone; false: the prompt too")
          .field("tokenization", &PromptAnswerConfig::tokenization,
                 "joined: prompt and answer as one text; separate: apart, and an end of text after "
                 "the answer")
          .one_of({"joined", "separate"})
          .field("use_chat_template", &PromptAnswerConfig::use_chat_template,
                 "render prompt and answer as a conversation by the model's chat template")
          .field(
              "allow_empty_answers", &PromptAnswerConfig::allow_empty_answers,
              "take records without an answer as having an empty one, instead of refusing them"));
}

/// A prompt without the space that parts it from the answer.
struct PromptAnswer {
  std::string prompt;
  std::string answer;
};

/// Tokenises prompts and answers:
/// - joined, as the reference does: ids of "PROMPT ANSWER" with special tokens; the first n labels
///   are -100, n = tokens of "PROMPT " (with the space) and special tokens in front. Then shifted
///   by one, so that the last token is a label only. A token that spans the border counts as
///   prompt.
/// - separate: [BOS where the tokenizer adds one] + "PROMPT" + " ANSWER" + [EOS], each tokenised on
///   its own; labels not shifted, -100 up to the answer.
/// Immutable; thread safe.
class ESPALIER_API PromptTokenizer {
 public:
  /// Throws Error(kBadInput) where the tokenizer or template lacks what the config asks for.
  PromptTokenizer(const DatasetContext& context, const PromptAnswerConfig& config);

  Sample encode(const PromptAnswer& text) const;
  /// By the chat template.
  Sample encode(const Conversation& conversation) const;

 private:
  Sample encode_joined(const PromptAnswer& text) const;
  Sample encode_separately(const PromptAnswer& text) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<const ConversationTokenizer> conversations_;
  bool answer_only_;
  bool joined_;
};

/// Member `name` of a record. Throws Error(kBadInput), with a suggestion, where it is missing.
ESPALIER_API const Value& require_member(const Value& record, const std::string& name);
/// The same for text.
ESPALIER_API const std::string& require_text(const Value& record, const std::string& name);
/// Throws Error(kBadInput) for an answer of nothing but white space, unless the config allows it.
ESPALIER_API void require_answer(std::string_view answer, const PromptAnswerConfig& config);

struct Turn {
  const char* role;  ///< "user", "assistant", ...
  std::string content;
};

/// Messages of the given roles and nothing else.
ESPALIER_API Conversation question_and_answer(const std::vector<Turn>& turns);

/// `text` without white space around it: a view of it.
ESPALIER_API std::string_view stripped(std::string_view text);

}  // namespace espalier
