#include <cstdio>
#include <filesystem>

#include "engine/checkpoint/export.h"
#include "engine/commands/engine_command.h"
#include "engine/run/model_loader.h"
#include "espalier/base/error.h"

namespace espalier {
namespace {

/// An output folder that the command also reads from would be replaced under its feet.
void require_other_folder(const std::string& output, const std::string& input) {
  std::error_code ignored;
  if (!input.empty() && std::filesystem::equivalent(output, input, ignored))
    throw_bad_input("the output folder is one of the inputs", output, "another folder", "--output");
}

int extract(const EngineCall& call) {
  ModelLoadOptions options;
  options.dtype = "float32";
  options.files = model_files(call, "tuned_model");
  const LoadedModel tuned =
      load_model(*call.create<ModelProvider>("tuned_model"), call.text("tuned"), options);
  options.files = model_files(call);
  const LoadedModel loaded = load_model(*call.create<ModelProvider>("model"), call.text("model"),
                                        options, call.adapter("peft"));
  const double left_over = loaded.adapter->extract(*loaded.model, *tuned.model);
  export_adapter(loaded, call.text("output"), loaded.folder);
  std::printf("adapter in %s; %.2f %% of the difference (Frobenius norm) is left over\n",
              call.text("output").c_str(), 100 * left_over);
  return 0;
}

}  // namespace

int run_adapter(const EngineCall& call) {
  for (const char* input : {"model", "adapter", "tuned"})
    require_other_folder(call.text("output"), call.text(input));
  const std::string action = call.text("action");
  if (action == "extract") return extract(call);
  ModelLoadOptions options;
  if (const std::string dtype = call.text("dtype"); !dtype.empty()) options.dtype = dtype;
  options.files = model_files(call);
  const LoadedModel loaded = load_model(*call.create<ModelProvider>("model"), call.text("model"),
                                        options, call.adapter("peft"));
  if (action == "merge")
    loaded.adapter->merge(*loaded.model);
  else
    loaded.adapter->unmerge(*loaded.model);
  export_model(loaded, call.text("output"));
  std::printf("model in %s\n", call.text("output").c_str());
  return 0;
}

}  // namespace espalier
