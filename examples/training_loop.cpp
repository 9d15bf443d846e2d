// Fine-tunes a model from C++, without the command line: everything that `espalier train` is made
// of, on a page.
//
//     training_loop MODEL_FOLDER DATA.safetensors STEPS
//
// Prints one line a step: step, loss, gradient norm, learning rate.
#include <cstdio>
#include <cstdlib>

#include "engine/data/loader.h"
#include "engine/run/component_library.h"
#include "engine/train/train_step.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/sdk/objective.h"

namespace {

using namespace espalier;

void run(const std::string& model_folder, const std::string& data_file, std::int64_t steps) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(model_folder);

  Table data_config;
  data_config.set("path", data_file);
  const auto dataset = library.create<Dataset>("pretokenized", data_config);
  dataset->open({});
  LoaderOptions loader_options;
  loader_options.rows_per_step = 2;
  loader_options.rows_per_batch = 2;
  DataLoader loader(dataset, loader_options);

  const auto objective = library.create<Objective>("language_modeling");
  const auto loss = library.create<Loss>("masked_cross_entropy");
  const auto schedule = library.create<LrScheduler>("cosine", parse_json(R"({"warmup_steps": 4})"));
  ParameterOptimizer optimizer(
      library.create<Optimizer>(
          "adamw", parse_json(R"({"lr": 0.01, "betas": [0.9, 0.95], "weight_decay": 0.1})")),
      loaded.model->parts().parameters);

  TrainingParts parts{*loaded.model, *objective, *loss, optimizer, *schedule};
  parts.max_norm = 1.0;
  parts.total_steps = steps;
  for (std::int64_t step = 1; step <= steps; ++step) {
    const StepMetrics metrics = train_step(parts, loader.next(), step);
    std::printf("%lld %.9g %.9g %.9g\n", static_cast<long long>(step), metrics.loss,
                metrics.grad_norm, metrics.lr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL_FOLDER DATA.safetensors STEPS\n", argv[0]);
    return 2;
  }
  try {
    run(argv[1], argv[2], std::atoll(argv[3]));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return exit_code(error.code());
  }
  return 0;
}
