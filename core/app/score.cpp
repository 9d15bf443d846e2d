#include "app/command.h"
#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "espalier/base/error.h"

namespace espalier::app {

int run_score(const std::vector<std::string>& arguments) {
  EngineRequest request;
  request.command = "score";
  std::string model;
  std::string adapter;
  std::optional<std::string> input;
  std::optional<std::string> text;
  std::string output;
  std::string dtype;
  bool json = false;
  bool logits = false;
  bool gradients = false;
  bool shifted = false;
  std::string device = "auto";
  std::string task;
  std::string pooling = "mean";
  bool normalize = false;
  plugin::CatalogOptions plugins;
  Options options(
      "score --model DIR [--adapter DIR] (--input IN --output OUT.safetensors | --input IN.jsonl | "
      "--text TEXT)",
      "Runs a model over one batch and writes loss, logits and gradients. A safetensors input "
      "holds\n"
      "input_ids [batch, seq] and optionally attention_mask, position_ids, cu_seqlens and labels "
      "(-100\n"
      "ignored). For text, or JSON Lines of {\"text\": ...}, it prints log probabilities and "
      "perplexity.");
  options.value("model", model, "model folder, or a hub id in the local cache", true)
      .value("adapter", adapter, "adapter folder in PEFT's format, used beside the model")
      .value("input", input, "safetensors file with the batch, or JSON Lines with texts")
      .value("text", text, "a text to score")
      .value("output", output, "safetensors file to write")
      .flag("json", json, "print a text's scores as JSON, one line a text")
      .flag("logits", logits, "write logits [batch, seq, vocab], float32, zeros at padding")
      .flag("gradients", gradients,
            "write grad.<name>, the gradient of the mean loss; with an "
            "adapter those of its tensors")
      .flag("shifted-labels", shifted, "labels are aligned with the positions that predict them")
      .value("dtype", dtype,
             "dtype of weights and arithmetic (default: stored weights, float32 arithmetic)");
  options
      .value("task", task,
             "sequence_classification, token_classification or embedding, for a model whose "
             "config.json does not say so; labels are then [batch], or [batch, seq] aligned")
      .value("pooling", pooling, "embedding: mean or last (default mean)")
      .flag("normalize", normalize, "embedding: vectors of length 1");
  add_device_option(options, device);
  add_plugin_options(options, plugins);
  options.parse(arguments);

  if (input.has_value() == text.has_value()) {
    throw_bad_input("score needs one input", {}, "--input or --text", "the command line");
  }
  const bool is_batch = input && input->ends_with(".safetensors");
  if (is_batch && output.empty()) {
    throw_bad_input("score needs a file to write", {}, "--output OUT.safetensors",
                    "the command line");
  }
  Table table;
  if (input) table.set(is_batch ? "input" : "texts", *input);
  if (text) table.set("text", *text);
  table.set("json", json);
  table.set("output", output);
  table.set("logits", logits);
  table.set("gradients", gradients);
  table.set("shifted-labels", shifted);
  if (!dtype.empty()) table.set("dtype", dtype);
  if (!task.empty()) table.set("task", task);
  table.set("pooling", pooling);
  table.set("normalize", normalize);
  table.set("device", device);
  request.options = std::move(table);
  return run_on_model(std::move(request), plugins, model, adapter);
}

}  // namespace espalier::app
