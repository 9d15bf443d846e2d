#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/data/conversation.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// Which tokens of a conversation are learnt.
enum class LossMask {
  kAll,            ///< every token
  kAssistant,      ///< what the assistant says
  kLastAssistant,  ///< the last thing that the assistant says
};

/// Renders conversations by the model's chat template and tokenises them.
///
/// A token is the assistant's when it shares a character with one of the assistant's spans. Where
/// the template has `{% generation %}` blocks, they are the spans. Where it has none, the span of
/// an assistant message reaches from the end of the conversation before it, rendered with the
/// generation prompt, to the end of the conversation up to it. That is right only for templates to
/// which further messages just add text; others are refused.
/// Immutable; thread safe.
class ESPALIER_API ConversationTokenizer {
 public:
  /// Throws Error(kBadInput) where the model has no tokenizer or no chat template.
  ConversationTokenizer(const DatasetContext& context, LossMask mask);

  /// Throws Error(kBadInput) when the conversation has no assistant to learn from.
  void check(const Conversation& conversation) const;
  /// Labels are not shifted. Throws Error(kBadInput) when the template refuses the messages or
  /// can't be masked.
  Sample encode(const Conversation& conversation) const;

 private:
  using Spans = std::vector<std::pair<std::int64_t, std::int64_t>>;  ///< in code points, half open

  Spans spans_by_prefix(const Conversation& conversation, const std::string& text) const;
  std::string prefix(const Conversation& conversation, std::size_t messages, bool generation_prompt,
                     const std::string& text) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> template_;
  LossMask mask_;
};

}  // namespace espalier
