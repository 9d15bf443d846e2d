#pragma once

#include <memory>
#include <string>

#include "espalier/sdk/tokenizer.h"

namespace espalier::text {

/// The chat template of a Hugging Face folder: chat_template.jinja, else `chat_template` of
/// tokenizer_config.json (a text, or a list of named ones: "tool_use" with tools if there is one,
/// else "default"). Null when the folder has none. Throws Error that names the file.
std::shared_ptr<const ChatTemplate> load_chat_template(const std::string& folder,
                                                       bool with_tools = false);

/// `special_tokens` ("bos_token" to "<s>", ...) become variables of the template. `where` names the
/// source in errors.
std::shared_ptr<const ChatTemplate> compile_chat_template(const std::string& source,
                                                          Table special_tokens,
                                                          std::string where = "chat template");

}  // namespace espalier::text
