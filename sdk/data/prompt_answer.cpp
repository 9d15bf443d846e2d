#include "espalier/data/prompt_answer.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/sdk/batch.h"

namespace espalier {
namespace {

using Ids = std::vector<std::int32_t>;

/// Number of special tokens in front of the text: where `bare` begins in `full`.
std::size_t leading_special_tokens(const Ids& full, const Ids& bare) {
  const auto begin = std::search(full.begin(), full.end(), bare.begin(), bare.end());
  return begin == full.end() ? 0 : static_cast<std::size_t>(begin - full.begin());
}

}  // namespace

PromptTokenizer::PromptTokenizer(const DatasetContext& context, const PromptAnswerConfig& config)
    : tokenizer_(require_tokenizer(context)),
      answer_only_(config.answer_only_loss_mask),
      joined_(config.tokenization == "joined") {
  if (config.use_chat_template) {
    const LossMask mask = answer_only_ ? LossMask::kAssistant : LossMask::kAll;
    conversations_ = std::make_unique<ConversationTokenizer>(context, mask);
  } else if (!joined_ && tokenizer_->eos_id() < 0) {
    throw_bad_input(
        "the tokenizer has no end-of-text token, which tokenization = \"separate\" adds", {},
        "an eos_token in tokenizer_config.json", context.model_folder,
        "use tokenization = \"joined\"");
  }
}

Sample PromptTokenizer::encode(const PromptAnswer& text) const {
  return joined_ ? encode_joined(text) : encode_separately(text);
}

Sample PromptTokenizer::encode(const Conversation& conversation) const {
  return conversations_->encode(conversation);
}

Sample PromptTokenizer::encode_joined(const PromptAnswer& text) const {
  const std::string prompt = text.prompt + " ";
  const std::string whole = prompt + text.answer;
  const Ids ids = tokenizer_->encode(whole, true);
  Sample sample;
  sample.labels_shifted = true;
  if (ids.empty()) return sample;
  sample.input_ids.assign(ids.begin(), ids.end() - 1);
  sample.labels.assign(ids.begin() + 1, ids.end());
  if (!answer_only_) return sample;
  const std::size_t hidden = tokenizer_->encode(prompt, false).size() +
                             leading_special_tokens(ids, tokenizer_->encode(whole, false));
  const std::size_t masked =
      std::min(hidden - std::min<std::size_t>(hidden, 1), sample.labels.size());
  std::fill_n(sample.labels.begin(), masked, kIgnoredLabel);
  return sample;
}

Sample PromptTokenizer::encode_separately(const PromptAnswer& text) const {
  const Ids prompt = tokenizer_->encode(text.prompt, false);
  const Ids with_special = tokenizer_->encode(text.prompt, true);
  const Ids answer = tokenizer_->encode(" " + text.answer, false);
  Sample sample;
  sample.input_ids.assign(with_special.begin(),
                          with_special.begin() + static_cast<std::ptrdiff_t>(
                                                     leading_special_tokens(with_special, prompt)));
  sample.input_ids.insert(sample.input_ids.end(), prompt.begin(), prompt.end());
  const std::size_t hidden = sample.input_ids.size();
  sample.input_ids.insert(sample.input_ids.end(), answer.begin(), answer.end());
  sample.input_ids.push_back(tokenizer_->eos_id());
  sample.labels = sample.input_ids;
  if (answer_only_) std::fill_n(sample.labels.begin(), hidden, kIgnoredLabel);
  return sample;
}

const Value& require_member(const Value& record, const std::string& name) {
  if (const Value* value = record.find(name)) return *value;
  std::vector<std::string> names;
  for (const auto& [key, value] : record.as_table()) names.push_back(key);
  throw_bad_input("a record has no '" + name + "'", names.empty() ? "no keys" : join_names(names),
                  "'" + name + "'", {}, did_you_mean(name, names));
}

const std::string& require_text(const Value& record, const std::string& name) {
  const Value& value = require_member(record, name);
  if (value.is_string()) return value.as_string();
  throw_bad_input("'" + name + "' of a record is not text",
                  std::string(type_phrase(value.type())) + ": " + dump_json(value).substr(0, 60),
                  "a string", {});
}

void require_answer(std::string_view answer, const PromptAnswerConfig& config) {
  if (config.allow_empty_answers || !stripped(answer).empty()) return;
  throw_bad_input("a record has no answer", {}, "an answer that is not empty", {},
                  "take the record out of the file, or keep it by allow_empty_answers = true");
}

Conversation question_and_answer(const std::vector<Turn>& turns) {
  Array messages;
  for (const Turn& turn : turns) {
    Table message;
    message.set("role", turn.role);
    message.set("content", turn.content);
    messages.emplace_back(std::move(message));
  }
  return {std::move(messages), {}};
}

std::string_view stripped(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace espalier
