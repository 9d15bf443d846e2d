#include <charconv>

#include "app/command.h"
#include "app/compute.h"
#include "app/generation_options.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "espalier/base/error.h"

namespace espalier::app {
namespace {

Array parse_ids(const std::string& text) {
  Array ids;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    std::int64_t id = 0;
    const auto [rest, failure] = std::from_chars(at, end, id);
    if (failure != std::errc() || id < 0 || (rest != end && *rest != ',')) {
      throw_bad_input("--prompt-ids is no list of ids", text,
                      "numbers separated by commas, like 1,2,3", "--prompt-ids");
    }
    ids.emplace_back(id);
    at = rest == end ? end : rest + 1;
  }
  return ids;
}

}  // namespace

int run_generate(const std::vector<std::string>& arguments) {
  EngineRequest request;
  request.command = "generate";
  std::string model;
  std::vector<std::string> adapters;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_ids;
  std::optional<std::string> messages;
  std::optional<std::string> prompts;
  std::optional<std::string> output;
  std::optional<std::int64_t> batch_size;
  std::optional<std::int64_t> num_answers;
  std::optional<std::int64_t> num_beams;
  std::optional<double> length_penalty;
  std::optional<std::string> early_stopping;
  bool log_probs = false;
  bool json = false;
  GenerationOptions generation;
  std::string device = "auto";
  plugin::CatalogOptions plugins;
  Options options(
      "generate --model DIR [--adapter DIR | --adapter NAME=DIR ...] (--prompt TEXT | --prompt-ids "
      "1,2,3 | --messages FILE "
      "| --prompts FILE.jsonl) [--max-new-tokens N]",
      "Continues a text or answers a chat. Takes the most likely token each time unless a sampling "
      "flag\n"
      "(--temperature, --top-k, --top-p, --min-p, ...) or --num-beams is given.");
  options.value("model", model, "model folder, or a hub id in the local cache", true)
      .values("adapter", adapters,
              "adapter folder in PEFT's format, used beside the model; as NAME=DIR, several that "
              "lines of --prompts choose by their \"adapter\"")
      .value("prompt", prompt, "text to continue")
      .value("prompt-ids", prompt_ids, "token ids to continue, separated by commas")
      .value("messages", messages, "JSON file with a list of chat messages to answer")
      .value("prompts", prompts,
             "JSON Lines, each with prompt, prompt_ids or messages, and adapter where several are "
             "given; gives them back with answers")
      .value("output", output, "where the lines of --prompts go (default: to the terminal)")
      .value("batch-size", batch_size, "lines of --prompts answered side by side (default 8)");
  generation.declare(options);
  options.value("num-answers", num_answers, "answers for a prompt (default 1)")
      .value("num-beams", num_beams, "beam search with that many beams")
      .value("length-penalty", length_penalty,
             "exponent of the length in a beam's score; above 0 likes long answers (default 1)")
      .value("early-stopping", early_stopping,
             "end a beam search when there are enough answers: true, false or never (default "
             "false)")
      .flag("log-probs", log_probs, "with the model's log probability of each token")
      .flag("json", json, "print {\"ids\": [...], \"text\": ..., \"ending\": ...} of each answer");
  add_device_option(options, device);
  add_plugin_options(options, plugins);
  options.parse(arguments);
  if (prompt.has_value() + prompt_ids.has_value() + messages.has_value() + prompts.has_value() !=
      1) {
    throw_bad_input("generate needs one prompt", {},
                    "one of --prompt, --prompt-ids, --messages, --prompts", "the command line");
  }
  if (!prompts && (output || batch_size)) {
    throw_bad_input("--output and --batch-size are for --prompts", {}, "--prompts FILE.jsonl",
                    "the command line");
  }
  if (!prompts && adapters.size() > 1) {
    throw_bad_input("one prompt is answered with one adapter", std::to_string(adapters.size()),
                    "one --adapter, or --prompts FILE.jsonl with \"adapter\" in its lines",
                    "--adapter");
  }
  if (batch_size && *batch_size < 1) {
    throw_bad_input("--batch-size is out of range", std::to_string(*batch_size), "1 or more",
                    "--batch-size");
  }
  if (log_probs && !json && !prompts) {
    throw_bad_input("log probabilities are a part of the JSON output", {}, "--log-probs --json",
                    "--log-probs");
  }

  Table table;
  const auto set = [&](const char* name, const auto& value) {
    if (value) table.set(name, *value);
  };
  set("prompt", prompt);
  if (prompt_ids) table.set("prompt-ids", parse_ids(*prompt_ids));
  set("messages", messages);
  set("prompts", prompts);
  set("output", output);
  set("batch-size", batch_size);
  set("num-answers", num_answers);
  set("num-beams", num_beams);
  set("length-penalty", length_penalty);
  set("early-stopping", early_stopping);
  table.set("log-probs", log_probs);
  table.set("json", json);
  generation.store(table);
  table.set("device", device);
  request.options = std::move(table);
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  add_model(request, catalog, model);
  add_adapters(request, catalog, adapters);
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app
