// What `espalier plugins doctor` says of the machine and only LibTorch knows.
#include "engine/run/machine.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

#include <chrono>
#include <cstdio>

#include "engine/commands/engine_command.h"
#include "engine/memory/caching_allocator.h"
#include "engine/parallel/loopback_check.h"
#include "espalier/sdk/fingerprint.h"

namespace espalier {
namespace {

/// Rate of float32 products of `size` x `size` matrices, the best of a few, in GFLOP/s.
double gemm_rate(std::int64_t size) {
  const at::Tensor a = at::ones({size, size});
  const at::Tensor b = at::ones({size, size});
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor c = at::matmul(a, b);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const auto n = static_cast<double>(size);
    best = std::max(best, 2 * n * n * n / seconds.count() / 1e9);
  }
  return best;
}

/// Who serves the memory of tensors.
std::string allocator() {
  return CachingAllocator::installed() ? "caching, huge pages where the system gives them"
                                       : "LibTorch's (ESPALIER_ALLOCATOR)";
}

}  // namespace

int run_machine(const EngineCall& call) {
  constexpr std::int64_t kSize = 1024;
  char rate[64];
  std::snprintf(rate, sizeof rate, "%.0f GFLOP/s in float32 with %d threads (%s)", gemm_rate(kSize),
                at::get_num_threads(), gemm_provider().c_str());
  Table facts;
  facts.set("libtorch_version", ESPALIER_SDK_TORCH_VERSION);
  facts.set("instruction_set", instruction_set());
  facts.set("matrix_products", std::string(rate));
  facts.set("allocator", allocator());
  facts.set("collectives", loopback_check());
  facts.set("cuda", at::globalContext().hasCUDA() ? "a GPU can be used" : "none found");
  *call.request.answer = std::move(facts);
  return 0;
}

}  // namespace espalier
