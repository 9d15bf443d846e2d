#include "text/chat_template_loader.h"

#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/utf8.h"
#include "text/chat/interpreter.h"
#include "text/special_tokens.h"

namespace espalier::text {
namespace {

constexpr int kDeepestValue = 600;

chat::Item to_item(const Value& value, int depth = 0) {
  if (depth > kDeepestValue)
    throw_bad_input("a value for a chat template is nested too deeply", {},
                    "at most " + std::to_string(kDeepestValue) + " levels",
                    value.position().to_string());
  switch (value.type()) {
    case Value::Type::kNull: return {};
    case Value::Type::kBool: return value.as_bool();
    case Value::Type::kInt: return value.as_int();
    case Value::Type::kFloat: return value.as_float();
    case Value::Type::kString: return replace_invalid_utf8(value.as_string());
    case Value::Type::kArray: {
      chat::Items items;
      for (const Value& item : value.as_array()) items.push_back(to_item(item, depth + 1));
      return chat::make_list(std::move(items));
    }
    case Value::Type::kTable: {
      auto dict = std::make_shared<chat::Dict>();
      for (const auto& [key, item] : value.as_table())
        dict->entries.emplace_back(chat::Item(replace_invalid_utf8(key)), to_item(item, depth + 1));
      return dict;
    }
  }
  return {};
}

[[noreturn]] void rethrow(const chat::TemplateFailure& failure, const std::string& where) {
  const std::string place = failure.line == 0 ? where : where + ":" + std::to_string(failure.line);
  throw Error(Problem{ErrorCode::kBadInput, failure.message, failure.type, {}, place, {}});
}

class JinjaChatTemplate final : public ChatTemplate {
 public:
  JinjaChatTemplate(const std::string& source, Table special_tokens, std::string where)
      : special_tokens_(std::move(special_tokens)), where_(std::move(where)) {
    try {
      parsed_ = chat::parse_template(replace_invalid_utf8(source));
    } catch (const chat::TemplateFailure& failure) {
      rethrow(failure, where_);
    }
  }

  RenderedChat render(const Value& messages, const Value& tools, bool add_generation_prompt,
                      const Table& variables) const override {
    try {
      chat::Interpreter interpreter(parsed_);
      for (const auto& [name, token] : special_tokens_)
        interpreter.set_variable(name, to_item(token));
      interpreter.set_variable("documents", {});
      for (const auto& [name, value] : variables) interpreter.set_variable(name, to_item(value));
      interpreter.set_variable("messages", to_item(messages));
      interpreter.set_variable("tools", to_item(tools));
      interpreter.set_variable("add_generation_prompt", chat::Item(add_generation_prompt));
      RenderedChat rendered;
      rendered.text = interpreter.render();
      rendered.assistant_spans = interpreter.generation_spans();
      rendered.has_generation_blocks = parsed_.has_generation_blocks;
      return rendered;
    } catch (const chat::TemplateFailure& failure) {
      rethrow(failure, where_);
    }
  }

 private:
  chat::ParsedTemplate parsed_;
  Table special_tokens_;
  std::string where_;
};

const std::string& template_text(const Value& value, const std::string& where) {
  if (!value.is_string())
    throw_bad_input("a chat template is no text", std::string(type_phrase(value.type())),
                    "a string", where);
  return value.as_string();
}

/// `chat_template` of tokenizer_config.json: a text or a list of {name, template}.
std::string choose_template(const Value& value, bool with_tools, const std::string& where) {
  if (!value.is_array()) return template_text(value, where);
  const Value* chosen = nullptr;
  for (const Value& entry : value.as_array()) {
    const Value* name = entry.find("name");
    const Value* text = entry.find("template");
    if (name == nullptr || text == nullptr)
      throw_bad_input("a named chat template is incomplete", dump_json(entry),
                      "an object with name and template", where);
    const std::string& called = template_text(*name, where);
    if (called == "tool_use" && with_tools) return template_text(*text, where);
    if (called == "default") chosen = text;
  }
  if (chosen == nullptr)
    throw_bad_input("no chat template is named default", {}, "one called \"default\"", where);
  return template_text(*chosen, where);
}

}  // namespace

std::shared_ptr<const ChatTemplate> compile_chat_template(const std::string& source,
                                                          Table special_tokens, std::string where) {
  return std::make_shared<JinjaChatTemplate>(source, std::move(special_tokens), std::move(where));
}

std::shared_ptr<const ChatTemplate> load_chat_template(const std::string& folder, bool with_tools) {
  const std::string file = folder + "/chat_template.jinja";
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored))
    return compile_chat_template(read_file(file), read_special_tokens(folder), file);
  const std::string config_path = folder + "/tokenizer_config.json";
  const Value config = read_optional_json(config_path);
  const Value* source = config.find("chat_template");
  if (source == nullptr || source->is_null()) return nullptr;
  const std::string where = config_path + ": chat_template";
  return compile_chat_template(choose_template(*source, with_tools, where),
                               read_special_tokens(folder), where);
}

}  // namespace espalier::text
