#include "engine/checkpoint/export.h"

#include <cstdio>
#include <filesystem>

#include "engine/checkpoint/checkpoint_store.h"
#include "engine/commands/engine_command.h"
#include "engine/run/model_loader.h"
#include "engine/run/weight_source.h"
#include "espalier/base/error.h"
#include "plugin/model_provider.h"

namespace espalier {

int run_export(const EngineCall& call) {
  const Value& recipe = call.option("recipe");
  ModelLoadOptions options;
  options.dtype = recipe.find_path("model.dtype")->as_string();
  options.device = "cpu";
  options.files = model_files(call);
  options.random_weights = recipe.find_path("model.from_config")->as_bool();
  options.config = *recipe.find_path("model.config");
  options.task = recipe.find_path("model.task")->as_string();
  options.token_head = plugin::token_head_of(call.request.components.at("model").component);
  options.seed = static_cast<std::uint64_t>(recipe.find_path("seed")->as_int());
  const auto adapter = call.adapter("peft");
  options.without_values = adapter == nullptr;
  const LoadedModel loaded =
      load_model(*call.create<ModelProvider>("model"), call.text("model"), options, adapter);
  std::vector<std::shared_ptr<Parameter>> parameters = loaded.model->parts().parameters;
  const std::string output = call.text("output");
  if (loaded.adapter != nullptr) {
    const auto& added = loaded.adapter->parameters();
    parameters.insert(parameters.end(), added.begin(), added.end());
    load_trained_values(call.text("checkpoint"), parameters, call.flag("ema"));
    const std::string base = recipe.find_path("model.path")->as_string();
    export_adapter(loaded, output, std::filesystem::is_directory(base) ? loaded.folder : base);
  } else {
    const TrainedValues trained(call.text("checkpoint"), parameters, call.flag("ema"));
    export_model(loaded, output, [&](std::size_t index, const ShardPiece& piece) {
      const Parameter& parameter = *parameters[index];
      return trained.contains(parameter) ? trained.read(parameter, piece)
                                         : loaded.source->read(index, piece);
    });
  }
  std::printf("%s in %s\n", loaded.adapter != nullptr ? "adapter" : "model", output.c_str());
  return 0;
}

}  // namespace espalier
