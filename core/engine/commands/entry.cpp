// The engine's one entry for the front end, and the answer to MKL's question about the CPU.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <map>

#include "engine/commands/engine_command.h"
#include "engine/memory/caching_allocator.h"
#include "engine/run/kernel_packs.h"
#include "espalier/base/error.h"
#include "espalier/stable/stable_tensor.h"

// MKL takes a slow path on CPUs of other vendors than Intel, whatever instructions they have. This
// library comes before MKL in the search order of symbols, so its answer is taken: twice the rate
// on AVX-512 machines of AMD.
extern "C" ESPALIER_API int mkl_serv_intel_cpu_true() { return 1; }

namespace espalier {

const Value& EngineCall::option(const std::string& name) const {
  static const Value kNothing;
  const Value* value = request.options.find(name);
  return value == nullptr ? kNothing : *value;
}

bool EngineCall::flag(const std::string& name) const {
  const Value& value = option(name);
  return value.is_bool() && value.as_bool();
}

std::string EngineCall::text(const std::string& name) const {
  const Value& value = option(name);
  return value.is_null() ? std::string() : value.as_string();
}

std::shared_ptr<Adapter> EngineCall::adapter(const std::string& section) const {
  if (!request.components.contains(section)) return nullptr;
  std::shared_ptr<Adapter> adapter = create<Adapter>(section);
  if (const std::string folder = text("adapter"); !folder.empty()) adapter->open(folder);
  return adapter;
}

namespace {

int dispatch(const EngineRequest& request) {
  static const std::map<std::string, int (*)(const EngineCall&)> kCommands = {
      {"adapter", run_adapter},         {"chat", run_chat},
      {"conformance", run_conformance}, {"data inspect", run_data_inspect},
      {"estimate", run_estimate},       {"export", run_export},
      {"generate", run_generate},       {"kernels", run_kernels},
      {"machine", run_machine},         {"models inspect", run_models_inspect},
      {"recipe new", run_recipe_new},   {"score", run_score},
      {"parity", run_parity},           {"train", run_train}};
  CachingAllocator::install();
  stable::register_factories();
  plugin::PluginHost host;
  host.load(request.plugins);
  const EngineCall call{request, host};
  use_kernel_packs(call);
  return kCommands.at(request.command)(call);
}

}  // namespace
}  // namespace espalier

extern "C" ESPALIER_API int espalier_engine_run(const espalier::EngineRequest& request) {
  try {
    return espalier::dispatch(request);
  } catch (const c10::OutOfMemoryError& error) {
    throw espalier::Error(espalier::Problem{espalier::ErrorCode::kUnsupported,
                                            "there is not enough memory",
                                            error.what_without_backtrace(),
                                            {},
                                            {},
                                            "use a smaller local_batch_size or a smaller model"});
  } catch (const c10::Error& error) {
    throw espalier::Error(
        espalier::Problem{espalier::ErrorCode::kInternal,
                          "a tensor operation failed",
                          error.what_without_backtrace(),
                          {},
                          {},
                          "this is a bug; please report it with the command that led here"});
  }
}
