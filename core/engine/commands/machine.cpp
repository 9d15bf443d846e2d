// What `espalier plugins doctor` says of the machine and only LibTorch knows.
#include "engine/run/machine.h"

#include <ATen/Context.h>

#include "engine/commands/engine_command.h"
#include "engine/memory/caching_allocator.h"
#include "engine/parallel/loopback_check.h"
#include "engine/run/gemm_check.h"
#include "engine/run/model_loader.h"
#include "espalier/io/tensor_io.h"
#include "espalier/sdk/fingerprint.h"

namespace espalier {
namespace {

/// Rate of products in float32, and in bfloat16 where the CPU has instructions for it.
std::string matrix_products() {
  std::string text;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    if (dtype != choose_compute_dtype("auto", dtype, at::kCPU).first) continue;
    const GemmCheck check = check_gemm(dtype);
    if (!text.empty()) text += "; ";
    text += check.text() + " in " + scalar_type_name(dtype) + " (" +
            gemm_provider(at::kCPU, dtype) + ")";
    if (const std::string warning = check.warning(); !warning.empty()) text += "; " + warning;
  }
  return text;
}

/// Who serves the memory of tensors.
std::string allocator() {
  return CachingAllocator::installed() ? "caching, huge pages where the system gives them"
                                       : "LibTorch's (ESPALIER_ALLOCATOR)";
}

}  // namespace

int run_machine(const EngineCall& call) {
  Table facts;
  facts.set("libtorch_version", ESPALIER_SDK_TORCH_VERSION);
  facts.set("instruction_set", instruction_set());
  facts.set("matrix_products", matrix_products());
  facts.set("allocator", allocator());
  facts.set("collectives", loopback_check());
  facts.set("cuda", at::globalContext().hasCUDA() ? "a GPU can be used" : "none found");
  *call.request.answer = std::move(facts);
  return 0;
}

}  // namespace espalier
