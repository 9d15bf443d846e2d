#include "espalier/data/conversation.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/data/prompt_answer.h"

namespace espalier {
namespace {

constexpr const char* kRolesPhrase = "system, developer, user, assistant or tool";
constexpr const char* kSpeakersPhrase = "system, human, gpt or tool";

/// Names of speakers in ShareGPT data, and the roles that they mean.
constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kSpeakers = {{
    {"human", "user"},
    {"user", "user"},
    {"gpt", "assistant"},
    {"assistant", "assistant"},
    {"chatgpt", "assistant"},
    {"bot", "assistant"},
    {"model", "assistant"},
    {"system", "system"},
    {"developer", "developer"},
    {"tool", "tool"},
    {"observation", "tool"},
    {"function_response", "tool"},
    {"tool_response", "tool"},
}};
constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

std::string shown(const Value& value) {
  constexpr std::size_t kMost = 80;
  std::string text = dump_json(value);
  if (text.size() <= kMost) return text;
  std::size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "...";
}

[[noreturn]] void refuse(const std::string& place, const std::string& what, const Value& found,
                         std::string expected, std::string hint = {}) {
  throw_bad_input(place + " " + what, std::string(type_phrase(found.type())) + ": " + shown(found),
                  std::move(expected), {}, std::move(hint));
}

const Value& member(const Value& message, const std::string& place, const std::string& name) {
  if (const Value* value = message.find(name)) return *value;
  refuse(place, "has no '" + name + "'", message, "a table with '" + name + "'");
}

bool is_given(const Value* value) {
  if (value == nullptr || value->is_null()) return false;
  return !(value->is_array() && value->as_array().empty()) &&
         !(value->is_string() && value->as_string().empty());
}

/// The text of OpenAI's content parts, joined by spaces.
std::string joined_parts(const Array& parts, const std::string& place) {
  std::string text;
  bool first = true;
  for (const Value& part : parts) {
    const Value* type = part.find("type");
    const Value* content = part.is_string() ? &part : part.find("text");
    const bool is_text = type == nullptr || (type->is_string() && type->as_string() == "text");
    if (!is_text || content == nullptr || !content->is_string()) {
      refuse(place, "has a content part that is not text", part,
             "{\"type\": \"text\", \"text\": ...}",
             "images and sound need a dataset for models that take them");
    }
    if (!std::exchange(first, false)) text += ' ';
    text += content->as_string();
  }
  return text;
}

Value content_of(const Value& message, const char* key, const std::string& place) {
  const Value* content = message.find(key);
  if (content != nullptr && content->is_string()) return *content;
  if (content != nullptr && content->is_array()) return joined_parts(content->as_array(), place);
  if (content != nullptr && !content->is_null()) {
    refuse(place, std::string("has a '") + key + "' that is not text", *content,
           "a string or a list of text parts");
  }
  for (const char* instead : {"tool_calls", "reasoning_content", "reasoning", "thinking"}) {
    if (is_given(message.find(instead))) return "";
  }
  refuse(place, std::string("has no '") + key + "'", message, "text",
         "only a message with tool_calls or reasoning may do without; use \"\" for an empty one");
}

void complete_tool_calls(Value& calls, const std::string& place) {
  if (calls.is_null()) return;
  if (!calls.is_array())
    refuse(place, "has 'tool_calls' that are no list", calls, "a list of tables");
  std::size_t number = 0;
  for (Value& call : calls.as_array()) {
    if (!call.is_table())
      refuse(place, "has a tool call that is no table", call, "{\"function\": {\"name\": ...}}");
    Table& table = call.as_table();
    if (!table.contains("id")) table.set("id", "call_" + std::to_string(number));
    if (!table.contains("type")) table.set("type", "function");
    ++number;
  }
}

std::string openai_role(const Value& message, const std::string& place) {
  const Value& role = member(message, place, "role");
  const bool known =
      role.is_string() && std::find(kRoles.begin(), kRoles.end(), role.as_string()) != kRoles.end();
  if (known) return role.as_string();
  std::string hint;
  if (role.is_string())
    hint = did_you_mean(role.as_string(), std::vector<std::string>(kRoles.begin(), kRoles.end()));
  refuse(place, "has an unknown role", role, kRolesPhrase, std::move(hint));
}

std::string sharegpt_role(const Value& message, const std::string& place) {
  const Value& speaker = member(message, place, "from");
  for (const auto& [name, role] : kSpeakers) {
    if (speaker.is_string() && speaker.as_string() == name) return std::string(role);
  }
  refuse(place, "has an unknown speaker", speaker, kSpeakersPhrase);
}

/// One message as the template wants it: role and content first, the rest as it is.
Value read_message(const Value& message, const std::string& place, bool sharegpt) {
  if (!message.is_table())
    refuse(place, "is no table", message, "{\"role\": ..., \"content\": ...}");
  const bool renamed = sharegpt && message.find("from") != nullptr;
  const char* const content_key = renamed ? "value" : "content";
  Table result;
  result.set("role", renamed ? sharegpt_role(message, place) : openai_role(message, place));
  result.set("content", content_of(message, content_key, place));
  for (const auto& [key, value] : message.as_table()) {
    if (key != (renamed ? "from" : "role") && key != content_key) result.set(key, value);
  }
  if (Value* calls = result.find("tool_calls")) complete_tool_calls(*calls, place);
  return result;
}

Value read_json_text(const Value& text, const std::string& place, const std::string& expected) {
  try {
    return parse_json(text.as_string(), {.file = place, .allow_duplicate_keys = true});
  } catch (const Error& error) {
    throw_bad_input(place + " is text, but not JSON", shown(text),
                    expected + ", or JSON text of one", {}, error.problems().front().what);
  }
}

Value read_tools(const Value& record) {
  const Value* given = record.find("tools");
  if (given == nullptr || given->is_null()) return {};
  Value tools = *given;
  if (tools.is_string()) {
    if (tools.as_string().find_first_not_of(" \t\r\n") == std::string::npos) return {};
    tools = read_json_text(*given, "'tools'", "a list of tools");
  }
  if (tools.is_null()) return {};
  if (!tools.is_array())
    refuse("'tools'", "is no list", tools, "a list of tools, or JSON text of one");
  for (const Value& tool : tools.as_array()) {
    if (!tool.is_table())
      refuse("'tools'", "holds something that is no table", tool, "{\"type\": \"function\", ...}");
  }
  return tools.as_array().empty() ? Value() : tools;
}

}  // namespace

Conversation read_conversation(const Value& record) {
  const bool sharegpt = record.find("messages") == nullptr;
  const char* const key = sharegpt ? "conversations" : "messages";
  const Value* given = record.find(key);
  if (given == nullptr) {
    refuse("a record", "is no conversation", record,
           "a key 'messages' (OpenAI) or 'conversations' (ShareGPT)",
           "data with columns of questions and answers can be read by a dataset that maps columns");
  }
  Value parsed;
  if (given->is_string() && stripped(given->as_string()).starts_with('[')) {  // as in CSV files
    parsed = read_json_text(*given, std::string("'") + key + "'", "a list of messages");
    given = &parsed;
  }
  if (!given->is_array())
    refuse(std::string("'") + key + "'", "is no list", *given, "a list of messages");
  if (given->as_array().empty()) {
    throw_bad_input("the conversation is empty", std::string("'") + key + "': []",
                    "at least one message", {}, "take the record out of the file");
  }
  Array messages;
  if (const Value* system = sharegpt ? record.find("system") : nullptr; is_given(system)) {
    if (!system->is_string()) refuse("'system'", "is no text", *system, "a string");
    Table message;
    message.set("role", "system");
    message.set("content", *system);
    messages.emplace_back(std::move(message));
  }
  std::size_t number = 0;
  for (const Value& message : given->as_array()) {
    messages.push_back(
        read_message(message, std::string(key) + "[" + std::to_string(number++) + "]", sharegpt));
  }
  return {std::move(messages), read_tools(record)};
}

bool is_assistant(const Value& message) { return message.find("role")->as_string() == "assistant"; }

}  // namespace espalier
