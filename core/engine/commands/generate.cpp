#include <cstdio>
#include <filesystem>
#include <optional>

#include "engine/commands/engine_command.h"
#include "engine/generate/generator.h"
#include "engine/run/model_loader.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "text/chat_template_loader.h"
#include "text/stream_decoder.h"
#include "text/tokenizer_loader.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

/// eos_token_id of generation_config.json, or of config.json: one id or a list.
std::set<std::int64_t> stop_ids(const LoadedModel& loaded) {
  const std::string file = (fs::path(loaded.folder) / "generation_config.json").string();
  const Value generation =
      fs::exists(file) ? read_json_file(file, {.allow_duplicate_keys = true}) : Value(Table());
  const Value* eos = generation.find("eos_token_id");
  if (eos == nullptr || eos->is_null()) eos = loaded.config.find("eos_token_id");
  std::set<std::int64_t> ids;
  if (eos == nullptr || eos->is_null()) return ids;
  if (eos->is_int()) return {eos->as_int()};
  for (const Value& id : eos->as_array()) ids.insert(id.as_int());
  return ids;
}

std::vector<std::int64_t> widened(const std::vector<std::int32_t>& ids) {
  return {ids.begin(), ids.end()};
}

std::vector<std::int64_t> chat_prompt(const EngineCall& call, const Tokenizer& tokenizer,
                                      const std::string& folder) {
  const std::shared_ptr<const ChatTemplate> chat = text::load_chat_template(folder);
  if (chat == nullptr) {
    throw_bad_input("the model has no chat template", {},
                    "chat_template.jinja or chat_template in tokenizer_config.json", folder,
                    "use --prompt with plain text");
  }
  const RenderedChat rendered = chat->render(read_json_file(call.text("messages")), Value(), true);
  return widened(tokenizer.encode(rendered.text, false));
}

std::vector<std::int64_t> read_prompt(const EngineCall& call, const Tokenizer* tokenizer,
                                      const std::string& folder) {
  if (const Value& ids = call.option("prompt-ids"); !ids.is_null()) {
    std::vector<std::int64_t> prompt;
    for (const Value& id : ids.as_array()) prompt.push_back(id.as_int());
    return prompt;
  }
  if (tokenizer == nullptr) {
    throw_bad_input("the model folder has no tokenizer", {}, "tokenizer.json", folder,
                    "give the prompt as --prompt-ids");
  }
  if (!call.option("messages").is_null()) return chat_prompt(call, *tokenizer, folder);
  return widened(tokenizer->encode(call.text("prompt"), true));
}

GenerateOptions generate_options(const EngineCall& call, const LoadedModel& loaded) {
  GenerateOptions options;
  options.max_new_tokens = call.option("max-new-tokens").as_int();
  if (!call.flag("ignore-eos")) options.stop_ids = stop_ids(loaded);
  SamplingOptions& sampling = options.sampling;
  const auto read = [&](const char* name, double& target, bool samples) {
    const Value& value = call.option(name);
    if (value.is_null()) return;
    target = value.as_float();
    sampling.sample = sampling.sample || samples;
  };
  read("temperature", sampling.temperature, true);
  read("top-p", sampling.top_p, true);
  read("min-p", sampling.min_p, true);
  read("repetition-penalty", sampling.repetition_penalty, false);
  if (const Value& top_k = call.option("top-k"); !top_k.is_null()) {
    sampling.top_k = top_k.as_int();
    sampling.sample = true;
  }
  if (const Value& seed = call.option("seed"); !seed.is_null())
    sampling.seed = static_cast<std::uint64_t>(seed.as_int());
  return options;
}

}  // namespace

int run_generate(const EngineCall& call) {
  ModelLoadOptions load_options;
  if (const std::string dtype = call.text("dtype"); !dtype.empty()) {
    load_options.dtype = dtype;
    load_options.compute_dtype = dtype;
  }
  load_options.device = call.text("device");
  const std::string folder = call.text("model");
  std::shared_ptr<const Tokenizer> tokenizer;
  if (text::has_tokenizer(folder)) tokenizer = text::load_tokenizer(folder);
  const std::vector<std::int64_t> prompt = read_prompt(call, tokenizer.get(), folder);
  const LoadedModel loaded =
      load_model(*call.create<ModelProvider>("model"), folder, load_options, call.adapter("peft"));
  require_language_model(loaded, "generate");
  const GenerateOptions options = generate_options(call, loaded);

  const bool json = call.flag("json");
  std::vector<std::int32_t> shown;
  std::optional<text::StreamDecoder> printer;
  if (!json && tokenizer != nullptr) printer.emplace(tokenizer, true);
  const auto print = [](const std::string& part) {
    if (part.empty()) return;
    std::fputs(part.c_str(), stdout);
    std::fflush(stdout);
  };
  const TokenSink stream = [&](std::int64_t id) {
    shown.push_back(static_cast<std::int32_t>(id));
    if (printer) print(printer->push(shown.back()));
    return true;
  };
  const std::vector<std::int64_t> ids = generate(*loaded.model, prompt, options, stream);
  if (!json) {
    if (printer) print(printer->finish());
    std::puts("");
    return 0;
  }
  const std::string text = tokenizer == nullptr ? std::string() : tokenizer->decode(shown, true);
  Array list;
  for (const std::int64_t id : ids) list.emplace_back(id);
  Table result;
  result.set("ids", std::move(list));
  result.set("text", text);
  std::puts(dump_json(result).c_str());
  return 0;
}

}  // namespace espalier
