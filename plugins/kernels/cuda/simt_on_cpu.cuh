// The names of CUDA for a compiler that knows none of them, so that tests run the kernels of this
// pack on the CPU: threads of a block, barriers, shared memory, warp shuffles, atomics. The threads
// of a block are fibers of one OS thread: each runs until it meets a barrier or a shuffle, so that
// a barrier that not all threads reach, and a shuffle with a missing lane, are found and end the
// test. Blocks run one after the other. For checking arithmetic and indexing, not for speed.
#pragma once

#include <ucontext.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "espalier/base/half_precision.h"

// NOLINTBEGIN(bugprone-reserved-identifier): these are CUDA's names
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
// All fibers of a block share the storage of their OS thread, as a block shares its memory.
#define __shared__ static thread_local
// NOLINTEND(bugprone-reserved-identifier)

namespace espalier::cuda {

inline float half_to_float_on_cpu(std::uint16_t bits) { return half_to_float(bits); }
inline std::uint16_t float_to_half_on_cpu(float value) { return float_to_half(value); }

struct Index3 {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

/// Runs the threads of one block as fibers.
class BlockOnCpu {
 public:
  static constexpr int kLanes = 32;

  BlockOnCpu(unsigned threads, std::size_t dynamic_shared_bytes)
      : fibers_(threads), shared_(dynamic_shared_bytes / sizeof(double) + 1) {}

  static BlockOnCpu*& current() {
    static thread_local BlockOnCpu* block = nullptr;
    return block;
  }

  void run(const std::function<void()>& kernel);
  void barrier() { wait_for(State::kAtBarrier); }
  void* dynamic_shared() { return shared_.data(); }

  /// The value that lane `lane ^ mask` gave.
  float shuffle_xor(float value, int mask) {
    const unsigned lane = running_ % kLanes;
    const unsigned first = running_ - lane;
    if (first + (lane ^ static_cast<unsigned>(mask)) >= fibers_.size())
      fail("a shuffle reaches past the block");
    fibers_[running_].offered = value;
    wait_for(State::kAtShuffle);
    const float received = fibers_[first + (lane ^ static_cast<unsigned>(mask))].offered;
    wait_for(State::kAtShuffle);  // nobody offers the next value before all have read this one
    return received;
  }

  Index3 thread() const { return {running_, 0, 0}; }

 private:
  enum class State { kReady, kAtBarrier, kAtShuffle, kDone };
  struct Fiber {
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack;
    State state = State::kReady;
    float offered = 0;
  };
  static constexpr std::size_t kStackBytes = 64 * 1024;

  [[noreturn]] static void fail(const char* what) {
    std::fprintf(stderr, "kernel on the CPU: %s\n", what);
    std::abort();
  }
  void wait_for(State state) {
    Fiber& fiber = fibers_[running_];
    fiber.state = state;
    ::swapcontext(&fiber.context, &scheduler_);
  }
  static void entry();
  bool release();

  std::vector<Fiber> fibers_;
  std::vector<double> shared_;
  const std::function<void()>* kernel_ = nullptr;
  ucontext_t scheduler_{};
  unsigned running_ = 0;
};

inline void BlockOnCpu::entry() {
  BlockOnCpu& block = *current();
  (*block.kernel_)();
  block.fibers_[block.running_].state = State::kDone;
  ::swapcontext(&block.fibers_[block.running_].context, &block.scheduler_);
}

/// Lets those go on whose company is complete; false when all are done.
inline bool BlockOnCpu::release() {
  std::size_t done = 0;
  std::size_t at_barrier = 0;
  for (const Fiber& fiber : fibers_) {
    done += fiber.state == State::kDone ? 1 : 0;
    at_barrier += fiber.state == State::kAtBarrier ? 1 : 0;
  }
  if (done == fibers_.size()) return false;
  bool progressed = false;
  if (at_barrier == fibers_.size()) {
    for (Fiber& fiber : fibers_) fiber.state = State::kReady;
    return true;
  }
  for (std::size_t first = 0; first < fibers_.size(); first += kLanes) {
    const std::size_t end = std::min(first + kLanes, fibers_.size());
    bool complete = true;
    for (std::size_t i = first; i < end; ++i)
      complete = complete && fibers_[i].state == State::kAtShuffle;
    if (!complete) continue;
    for (std::size_t i = first; i < end; ++i) fibers_[i].state = State::kReady;
    progressed = true;
  }
  if (!progressed) fail("threads wait at a barrier or a shuffle that others never reach");
  return true;
}

inline void BlockOnCpu::run(const std::function<void()>& kernel) {
  kernel_ = &kernel;
  current() = this;
  for (Fiber& fiber : fibers_) {
    fiber.state = State::kReady;
    if (!fiber.stack) fiber.stack = std::make_unique<std::byte[]>(kStackBytes);
    ::getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    ::makecontext(&fiber.context, &BlockOnCpu::entry, 0);
  }
  do {
    for (running_ = 0; running_ < fibers_.size(); ++running_) {
      if (fibers_[running_].state == State::kReady)
        ::swapcontext(&scheduler_, &fibers_[running_].context);
    }
  } while (release());
  current() = nullptr;
}

inline thread_local Index3 grid_size;
inline thread_local Index3 block_size;
inline thread_local Index3 block_index;

/// kernel<<<grid, threads, bytes>>>(...) for a callable that makes the call.
inline void launch_on_cpu(unsigned grid, unsigned threads, std::size_t dynamic_shared_bytes,
                          const std::function<void()>& kernel) {
  BlockOnCpu block(threads, dynamic_shared_bytes);
  grid_size = {grid, 1, 1};
  block_size = {threads, 1, 1};
  for (unsigned i = 0; i < grid; ++i) {
    block_index = {i, 0, 0};
    block.run(kernel);
  }
}

}  // namespace espalier::cuda

// NOLINTBEGIN(bugprone-reserved-identifier): these are CUDA's names
#define threadIdx (::espalier::cuda::BlockOnCpu::current()->thread())
#define blockIdx (::espalier::cuda::block_index)
#define blockDim (::espalier::cuda::block_size)
#define gridDim (::espalier::cuda::grid_size)
#define __syncthreads() (::espalier::cuda::BlockOnCpu::current()->barrier())
#define __shfl_xor_sync(lanes, value, mask) \
  (::espalier::cuda::BlockOnCpu::current()->shuffle_xor((value), (mask)))
// NOLINTEND(bugprone-reserved-identifier)
