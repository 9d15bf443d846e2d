#include "app/command.h"
#include "app/compute.h"
#include "app/generation_options.h"
#include "app/options.h"
#include "app/plugin_options.h"

namespace espalier::app {

int run_chat(const std::vector<std::string>& arguments) {
  EngineRequest request;
  request.command = "chat";
  std::string model;
  std::string adapter;
  std::string system;
  std::string device = "auto";
  GenerationOptions generation;
  plugin::CatalogOptions plugins;
  Options options(
      "chat --model DIR [--adapter DIR] [--system TEXT]",
      "A conversation with a model, a line at a time, by the model's own chat template. /help "
      "lists what can\nbe done besides asking; Ctrl-C stops an answer, Ctrl-D leaves.");
  options.value("model", model, "model folder, or a hub id in the local cache", true)
      .value("adapter", adapter, "adapter folder in PEFT's format, used beside the model")
      .value("system", system, "system prompt");
  generation.declare(options);
  add_device_option(options, device);
  add_plugin_options(options, plugins);
  options.parse(arguments);

  Table table;
  if (!system.empty()) table.set("system", system);
  generation.store(table);
  table.set("device", device);
  request.options = std::move(table);
  return run_on_model(std::move(request), plugins, model, adapter);
}

}  // namespace espalier::app
