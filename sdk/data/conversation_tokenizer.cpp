#include "espalier/data/conversation_tokenizer.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/data/sample_length.h"
#include "espalier/sdk/batch.h"

namespace espalier {
namespace {

std::int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

[[noreturn]] void refuse_template(const std::string& why, const std::string& found) {
  throw_bad_input(
      "the chat template does not tell which text is the assistant's: " + why, found,
      "a template with {% generation %} blocks, or one to which each message only adds text", {},
      "put {% generation %} ... {% endgeneration %} around the assistant's text in the template, "
      "or set "
      "mask = \"last_assistant\" or mask = \"all\"");
}

/// Labels of tokens outside the spans become -100. Spans are in order and don't overlap.
void keep_spans(const std::vector<std::pair<std::int64_t, std::int64_t>>& spans,
                const Encoding& encoding, std::vector<std::int64_t>& labels) {
  auto span = spans.begin();
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto [begin, end] = encoding.offsets[i];
    while (span != spans.end() && span->second <= begin) ++span;
    if (span == spans.end() || end <= span->first || begin == end) labels[i] = kIgnoredLabel;
  }
}

/// Leaves the last run of labels only.
void keep_last_run(std::vector<std::int64_t>& labels) {
  const auto learnt = [](std::int64_t label) { return label != kIgnoredLabel; };
  const auto run_end = std::find_if(labels.rbegin(), labels.rend(), learnt);
  const auto run_begin = std::find_if_not(run_end, labels.rend(), learnt);
  std::fill(run_begin, labels.rend(), kIgnoredLabel);
}

}  // namespace

ConversationTokenizer::ConversationTokenizer(const DatasetContext& context, LossMask mask)
    : tokenizer_(require_tokenizer(context)), template_(context.chat_template), mask_(mask) {
  if (template_ != nullptr) return;
  throw_bad_input("the model has no chat template, and conversations are rendered by it", {},
                  "chat_template.jinja, or chat_template in tokenizer_config.json",
                  context.model_folder,
                  "use an instruction-tuned model, or copy a template into the model's folder");
}

void ConversationTokenizer::check(const Conversation& conversation) const {
  const Array& messages = conversation.messages.as_array();
  if (mask_ == LossMask::kAll || std::any_of(messages.begin(), messages.end(), is_assistant))
    return;
  throw_bad_input("the conversation has no answer: no message is the assistant's",
                  std::to_string(messages.size()) + " messages of others",
                  "a message with the role assistant", {},
                  "take the record out of the file, or learn from all text by mask = \"all\"");
}

Sample ConversationTokenizer::encode(const Conversation& conversation) const {
  check(conversation);
  const RenderedChat chat = template_->render(conversation.messages, conversation.tools, false);
  const Encoding encoding = tokenizer_->encode_with_offsets(chat.text, false);
  Sample sample;
  sample.input_ids.assign(encoding.ids.begin(), encoding.ids.end());
  sample.labels = sample.input_ids;
  if (mask_ == LossMask::kAll) return sample;
  keep_spans(
      chat.has_generation_blocks ? chat.assistant_spans : spans_by_prefix(conversation, chat.text),
      encoding, sample.labels);
  if (mask_ == LossMask::kLastAssistant) keep_last_run(sample.labels);
  return sample;
}

ConversationTokenizer::Spans ConversationTokenizer::spans_by_prefix(
    const Conversation& conversation, const std::string& text) const {
  const Array& messages = conversation.messages.as_array();
  Spans spans;
  for (std::size_t i = messages.size(); i-- > 0;) {
    if (!is_assistant(messages[i])) continue;
    const std::string before = prefix(conversation, i, true, text);
    const std::string with =
        i + 1 == messages.size() ? text : prefix(conversation, i + 1, false, text);
    if (with.size() < before.size()) {
      refuse_template("it leaves out what the assistant says in message " + std::to_string(i),
                      with);
    }
    spans.emplace_back(code_points(before), code_points(with));
    if (mask_ == LossMask::kLastAssistant) break;
  }
  std::reverse(spans.begin(), spans.end());
  return spans;
}

/// The first messages rendered; refuses the template when `text`, all of them, does not begin so.
std::string ConversationTokenizer::prefix(const Conversation& conversation, std::size_t messages,
                                          bool generation_prompt, const std::string& text) const {
  const Array& all = conversation.messages.as_array();
  const Array first(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(messages));
  std::string rendered;
  try {
    rendered = template_->render(first, conversation.tools, generation_prompt).text;
  } catch (const Error& error) {
    refuse_template("it does not render the first " + std::to_string(messages) + " messages alone",
                    error.problems().front().what);
  }
  if (!text.starts_with(rendered)) {
    const auto differ = std::mismatch(rendered.begin(), rendered.end(), text.begin(), text.end());
    const std::string alone(differ.first, std::min(differ.first + 40, rendered.end()));
    refuse_template("the first " + std::to_string(messages) +
                        " messages are rendered differently without the rest" +
                        (generation_prompt ? " (with the generation prompt)" : ""),
                    "'" + alone + "' instead of '" +
                        std::string(differ.second, std::min(differ.second + 40, text.end())) + "'");
  }
  return rendered;
}

}  // namespace espalier
