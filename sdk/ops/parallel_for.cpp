#include "espalier/ops/parallel_for.h"

#include <ATen/Parallel.h>
#include <c10/util/ParallelGuard.h>

#include <algorithm>
#include <atomic>
#include <exception>

// The entry points of the OpenMP runtime that LibTorch has loaded (GNU's; LLVM's and Intel's have
// them too). Absent where LibTorch was built without OpenMP.
extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming): the name of GCC's runtime
[[gnu::weak]] void GOMP_parallel(void (*function)(void*), void* data, unsigned threads,
                                 unsigned flags);
[[gnu::weak]] int omp_get_thread_num();
[[gnu::weak]] int omp_get_num_threads();
}

namespace espalier::ops {
namespace {

struct Call {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t grain;
  const std::function<void(std::int64_t, std::int64_t)>& work;
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  std::exception_ptr error = nullptr;
};

void run_part(const Call& call, std::int64_t from, std::int64_t to, int thread) {
  const at::internal::ThreadIdGuard number(thread);
  const c10::ParallelGuard inside(true);
  call.work(from, to);
}

/// On each thread of a team. All of the team are asked, and some may have nothing to do: GNU's
/// runtime rebuilds its pool when the size of teams changes.
void run_share(void* data) {
  Call& call = *static_cast<Call*>(data);
  const std::int64_t count = call.end - call.begin;
  const std::int64_t threads =
      std::min<std::int64_t>(omp_get_num_threads(), at::divup(count, call.grain));
  const std::int64_t share = at::divup(count, threads);
  const int thread = omp_get_thread_num();
  const std::int64_t from = call.begin + thread * share;
  if (from >= call.end) return;
  try {
    run_part(call, from, std::min(call.end, from + share), thread);
  } catch (...) {
    if (!call.failed.test_and_set()) call.error = std::current_exception();
  }
}

}  // namespace

void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& work) {
  if (begin >= end) return;
  at::internal::lazy_init_num_threads();
  Call call{begin, end, std::max<std::int64_t>(grain, 1), work};
  const bool alone = end - begin <= call.grain || at::in_parallel_region() ||
                     at::get_num_threads() == 1 || GOMP_parallel == nullptr;
  if (alone) return run_part(call, begin, end, 0);
  GOMP_parallel(run_share, &call, 0, 0);
  if (call.error) std::rethrow_exception(call.error);
}

}  // namespace espalier::ops
