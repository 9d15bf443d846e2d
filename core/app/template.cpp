#include "app/template.h"

#include <iostream>
#include <optional>

#include "app/options.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "text/chat_template_loader.h"

namespace espalier::app {
namespace {

std::string to_json(const RenderedChat& rendered) {
  Array spans;
  for (const auto& [begin, end] : rendered.assistant_spans)
    spans.emplace_back(Array{Value(begin), Value(end)});
  Table out;
  out.set("text", rendered.text);
  out.set("assistant_spans", std::move(spans));
  return dump_json(out);
}

}  // namespace

int run_template(const std::vector<std::string>& arguments) {
  std::string model;
  std::string messages_path;
  std::optional<std::string> tools_path;
  bool add_generation_prompt = false;
  bool json = false;
  Options("template --model DIR --messages FILE.json",
          "Renders a list of messages with the model's chat template.")
      .value("model", model, "folder with chat_template.jinja or tokenizer_config.json", true)
      .value("messages", messages_path, "JSON list of {role, content, ...}", true)
      .value("tools", tools_path, "JSON list of tools")
      .flag("add-generation-prompt", add_generation_prompt, "end with the assistant's header")
      .flag("json", json, "text and assistant spans as one JSON object")
      .parse(arguments);
  const auto chat_template = text::load_chat_template(model, tools_path.has_value());
  if (chat_template == nullptr)
    throw_bad_input("the model has no chat template", {},
                    "chat_template.jinja, or chat_template in tokenizer_config.json", model);
  const Value messages = read_json_file(messages_path);
  if (!messages.is_array())
    throw_bad_input("the messages are no list", std::string(type_phrase(messages.type())),
                    "a list of messages", messages_path);
  const Value tools = tools_path ? read_json_file(*tools_path) : Value();
  const RenderedChat rendered = chat_template->render(messages, tools, add_generation_prompt);
  std::cout << (json ? to_json(rendered) + "\n" : rendered.text) << std::flush;
  return 0;
}

}  // namespace espalier::app
