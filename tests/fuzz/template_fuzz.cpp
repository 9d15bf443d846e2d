// A chat template of a stranger: refused with an Error, or rendered within its limits.
#include <string>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "text/chat_template_loader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const espalier::Value messages = espalier::parse_json(
      R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "H\u00e9llo {}"},
          {"role": "assistant", "content": " x\n", "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": {"a": 1, "b": [true, null, 2.5]}}}]},
          {"role": "user", "content": [{"type": "text", "text": "hi"}]}])");
  static const espalier::Value tools = espalier::parse_json(
      R"([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}])");
  espalier::Table special;
  special.set("bos_token", "<s>");
  special.set("eos_token", "</s>");
  try {
    const auto chat_template = espalier::text::compile_chat_template(
        std::string(reinterpret_cast<const char*>(data), size), special);
    chat_template->render(messages, tools, true);
  } catch (const espalier::Error& error) {
    if (error.code() == espalier::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
