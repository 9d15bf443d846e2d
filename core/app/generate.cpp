#include <charconv>

#include "app/command.h"
#include "app/compute.h"
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

/// Sampling flags that were given; their presence switches sampling on.
struct SamplingFlags {
  std::optional<double> temperature;
  std::optional<std::int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<std::int64_t> seed;

  void declare(Options& options) {
    options
        .value("temperature", temperature, "sample with this temperature; below 1 is more certain")
        .value("top-k", top_k, "sample from the K most likely tokens")
        .value("top-p", top_p,
               "sample from the most likely tokens that together have probability P")
        .value("min-p", min_p,
               "sample from tokens at least P times as likely as the most likely one")
        .value("repetition-penalty", repetition_penalty,
               "above 1: tokens of the text so far become less likely")
        .value("seed", seed, "of the sampling (default 0)");
  }
  void store(Table& table) const {
    if (temperature) table.set("temperature", *temperature);
    if (top_k) table.set("top-k", *top_k);
    if (top_p) table.set("top-p", *top_p);
    if (min_p) table.set("min-p", *min_p);
    if (repetition_penalty) table.set("repetition-penalty", *repetition_penalty);
    if (seed) table.set("seed", *seed);
  }
};

}  // namespace

int run_generate(const std::vector<std::string>& arguments) {
  EngineRequest request;
  request.command = "generate";
  std::string model;
  std::string adapter;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_ids;
  std::optional<std::string> messages;
  std::int64_t max_new_tokens = 128;
  std::string dtype;
  bool ignore_eos = false;
  bool json = false;
  SamplingFlags sampling;
  std::string device = "auto";
  plugin::CatalogOptions plugins;
  Options options(
      "generate --model DIR [--adapter DIR] (--prompt TEXT | --prompt-ids 1,2,3 | --messages FILE) "
      "[--max-new-tokens N]",
      "Continues a text or answers a chat. Takes the most likely token each time unless a sampling "
      "flag\n"
      "(--temperature, --top-k, --top-p, --min-p) is given.");
  options.value("model", model, "model folder, or a hub id in the local cache", true)
      .value("adapter", adapter, "adapter folder in PEFT's format, used beside the model")
      .value("prompt", prompt, "text to continue")
      .value("prompt-ids", prompt_ids, "token ids to continue, separated by commas")
      .value("messages", messages, "JSON file with a list of chat messages to answer")
      .value("max-new-tokens", max_new_tokens, "stop after that many tokens (default 128)")
      .flag("ignore-eos", ignore_eos, "go on after an end-of-text token")
      .value("dtype", dtype, "dtype of weights and arithmetic (default: as stored)")
      .flag("json", json, "print {\"ids\": [...], \"text\": ...} of the answer");
  sampling.declare(options);
  add_device_option(options, device);
  add_plugin_options(options, plugins);
  options.parse(arguments);
  if (prompt.has_value() + prompt_ids.has_value() + messages.has_value() != 1) {
    throw_bad_input("generate needs one prompt", {}, "one of --prompt, --prompt-ids, --messages",
                    "the command line");
  }
  if (max_new_tokens < 1) {
    throw_bad_input("--max-new-tokens is out of range", std::to_string(max_new_tokens), "1 or more",
                    "--max-new-tokens");
  }

  Table table;
  if (prompt) table.set("prompt", *prompt);
  if (prompt_ids) table.set("prompt-ids", parse_ids(*prompt_ids));
  if (messages) table.set("messages", *messages);
  table.set("max-new-tokens", max_new_tokens);
  table.set("ignore-eos", ignore_eos);
  table.set("json", json);
  if (!dtype.empty()) table.set("dtype", dtype);
  sampling.store(table);
  table.set("device", device);
  request.options = std::move(table);
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  add_model(request, catalog, model);
  add_adapter(request, catalog, adapter);
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app
