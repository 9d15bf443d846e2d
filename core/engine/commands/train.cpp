#include <cstdio>

#include "engine/commands/engine_command.h"
#include "engine/memory/caching_allocator.h"
#include "engine/parallel/process_world.h"
#include "engine/run/gemm_check.h"
#include "engine/run/kernel_packs.h"
#include "engine/run/training_run.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

std::string dtype_plan(const LoadedModel& model) {
  return "dtype plan: stored " + scalar_type_name(model.storage_dtype) + ", computed " +
         scalar_type_name(model.compute_dtype) + " (" + model.compute_reason + "), reduced float32";
}

/// What the speed of a run rests on.
std::string speed_line(TrainingRun& run) {
  const std::vector<std::string> kernels = kernel_names();
  const LoadedModel& model = run.model();
  std::string line =
      "speed: matrix products by " + gemm_provider(model.device, model.compute_dtype);
  if (model.device.is_cpu()) {
    const GemmCheck check = check_gemm(model.compute_dtype);
    line += ", " + check.text();
    if (const std::string warning = check.warning(); !warning.empty())
      std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  line += ", kernels: " + (kernels.empty() ? "LibTorch's own" : join_names(kernels));
  if (CachingAllocator::installed()) line += ", memory kept between steps";
  if (run.packed_tokens() > 0)
    line += ", samples packed into rows of " + std::to_string(run.packed_tokens()) + " tokens";
  if (const double share = run.shared_share(); share > 0) {
    char percent[16];
    std::snprintf(percent, sizeof percent, "%.0f %%", 100 * share);
    line += ", what texts begin with alike computed once (" + std::string(percent) +
            " of the first tokens)";
  }
  return line;
}

int train_in(World& world, const EngineCall& call) {
  TrainingRun run(call, world);
  const bool quiet = call.flag("quiet") || world.rank() != 0;
  const MemoryPlan plan = run.memory_plan();
  const LoadedModel& model = run.model();
  if (!quiet) {
    for (const std::string& note : model.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  }
  if (call.flag("json") && world.rank() == 0) {
    Table result;
    result.set("memory_plan", plan.to_value());
    result.set("storage_dtype", scalar_type_name(model.storage_dtype));
    result.set("compute_dtype", scalar_type_name(model.compute_dtype));
    result.set("attention", model.attention);
    result.set("task", task_name(model.task));
    result.set("total_steps", run.total_steps());
    std::puts(dump_json(result).c_str());
  } else if (!quiet) {
    std::printf("%s\nattention: %s (%s)\n%s\nmemory plan: %s\n", dtype_plan(model).c_str(),
                model.attention.c_str(), model.attention_reason.c_str(), speed_line(run).c_str(),
                plan.to_string().c_str());
  }
  if (call.flag("dry-run")) {
    if (!quiet)
      std::printf("dry run: %lld steps would follow; nothing was written\n",
                  static_cast<long long>(run.total_steps()));
    return 0;
  }
  return run.train(call.text("resume"), quiet);
}

}  // namespace

int run_train(const EngineCall& call) {
  return run_in_world(
      launch::read_rank_environment(),
      [&] {
        if (!call.request.components.contains("dist_env")) {
          throw_bad_input("several processes train and there is no way for them to talk", {},
                          "a section [dist_env]", "the recipe",
                          "type = \"...\" there; espalier plugins list shows the backends");
        }
        return call.create<CommBackend>("dist_env");
      },
      [&](World& world) { return train_in(world, call); });
}

}  // namespace espalier
