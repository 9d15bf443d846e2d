#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"

namespace espalier::app {

int run_parity(const std::vector<std::string>& arguments) {
  EngineRequest request;
  request.command = "parity";
  std::string model;
  std::string adapter;
  std::string expected;
  bool json = false;
  std::string device = "auto";
  plugin::CatalogOptions plugins;
  Options options("parity --model DIR [--adapter DIR] --expected expected.safetensors [--json]",
                  "Compares a model with a reference dump: logits, hidden states, loss, every "
                  "gradient, padded and\n"
                  "packed batches. Exits with 1 when a difference is past its tolerance.");
  options.value("model", model, "model folder, or a hub id in the local cache", true)
      .value("adapter", adapter, "adapter folder in PEFT's format, used beside the model")
      .value("expected", expected, "safetensors file with the reference", true)
      .flag("json", json, "print JSON");
  add_device_option(options, device);
  add_plugin_options(options, plugins);
  options.parse(arguments);

  Table table;
  table.set("expected", expected);
  table.set("json", json);
  table.set("device", device);
  request.options = std::move(table);
  return run_on_model(std::move(request), plugins, model, adapter);
}

}  // namespace espalier::app
