#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"

namespace espalier::app {

int run_score(const std::vector<std::string>& arguments) {
  EngineRequest request;
  request.command = "score";
  std::string model;
  std::string input;
  std::string output;
  std::string dtype;
  bool logits = false;
  bool gradients = false;
  bool shifted = false;
  plugin::CatalogOptions plugins;
  Options options("score --model DIR --input IN.safetensors --output OUT.safetensors [--logits] [--gradients]",
                  "Runs a model over one batch and writes loss, logits and gradients. The input holds input_ids\n"
                  "[batch, seq] and optionally attention_mask, position_ids, cu_seqlens and labels (-100 ignored).");
  options.value("model", model, "model folder, or a hub id in the local cache", true)
      .value("input", input, "safetensors file with the batch", true)
      .value("output", output, "safetensors file to write", true)
      .flag("logits", logits, "write logits [batch, seq, vocab], float32, zeros at padding")
      .flag("gradients", gradients, "write grad.<name>, the gradient of the mean loss")
      .flag("shifted-labels", shifted, "labels are aligned with the positions that predict them")
      .value("dtype", dtype, "dtype of weights and arithmetic (default: stored weights, float32 arithmetic)");
  add_plugin_options(options, plugins);
  options.parse(arguments);

  Table table;
  table.set("input", input);
  table.set("output", output);
  table.set("logits", logits);
  table.set("gradients", gradients);
  table.set("shifted-labels", shifted);
  if (!dtype.empty()) table.set("dtype", dtype);
  request.options = std::move(table);
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  add_model(request, catalog, model);
  return run_engine(std::move(request), catalog);
}

}  // namespace espalier::app
