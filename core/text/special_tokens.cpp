#include "text/special_tokens.h"

#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier::text {
namespace {

/// "<s>" or {"content": "<s>", ...}.
const std::string* content_of(const Value& value) {
  const Value* content = value.is_table() ? value.find("content") : &value;
  return content != nullptr && content->is_string() ? &content->as_string() : nullptr;
}

void add_tokens(const Value& config, const std::string& path, Table& tokens) {
  if (config.is_null()) return;
  if (!config.is_table())
    throw_bad_input("a file has the wrong type", std::string(type_phrase(config.type())),
                    "an object", path);
  for (const auto& [key, value] : config.as_table()) {
    constexpr std::string_view kSuffix = "_token";
    if (!std::string_view(key).ends_with(kSuffix) || value.is_null() || value.is_bool()) continue;
    const std::string* content = content_of(value);
    if (content == nullptr)
      throw_bad_input("a special token has the wrong type", dump_json(value),
                      "a string, or an object with a string content", path + ": " + key);
    if (!tokens.contains(key)) tokens.set(key, *content);
  }
}

}  // namespace

Value read_optional_json(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  return read_json_file(path, {.allow_duplicate_keys = true});
}

Table read_special_tokens(const std::string& folder) {
  Table tokens;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::string path = folder + "/" + name;
    add_tokens(read_optional_json(path), path, tokens);
  }
  return tokens;
}

}  // namespace espalier::text
