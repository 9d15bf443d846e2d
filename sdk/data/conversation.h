#pragma once

#include "espalier/base/api.h"
#include "espalier/base/value.h"

namespace espalier {

/// What a chat template renders.
struct Conversation {
  Value messages;  ///< array of tables with `role`, `content` and whatever else the data has
  Value tools;     ///< array, or null
};

/// Reads a record of chat data:
/// - OpenAI: `messages`, a list of {role, content, ...}; roles system, developer, user, assistant,
///   tool. Content may be a list of text parts, which are joined by spaces, or be null or absent
///   beside tool calls or reasoning. `tool_calls` get the `id` and `type` that are missing.
/// - ShareGPT: `conversations`, a list of {from, value, ...} with human, gpt, system, ...; a text
///   `system` of the record becomes the first message.
/// - `tools`: a list, or JSON text of one; an empty list is none. `messages` and `conversations`
/// may
///   be JSON text too.
/// Further keys of messages (reasoning_content, name, tool_call_id, ...) are kept for the template.
/// Throws Error(kBadInput) that names the message.
ESPALIER_API Conversation read_conversation(const Value& record);

/// True when the message is the assistant's. `message` comes from read_conversation.
ESPALIER_API bool is_assistant(const Value& message);

}  // namespace espalier
