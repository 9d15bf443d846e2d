#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

namespace espalier {

/// Counts what LibTorch's CPU allocator hands out on this thread while it lives.
class MemoryMeter {
 public:
  MemoryMeter()
      : counter_(std::make_shared<Counter>()),
        guard_(c10::DebugInfoKind::PROFILER_STATE, counter_) {}

  /// Most bytes that were held at once, beyond those at the start.
  std::int64_t peak() const { return counter_->peak; }

 private:
  struct Counter final : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, std::int64_t size, std::size_t, std::size_t,
                           c10::Device) override {
      const std::int64_t held = now += size;
      peak = std::max<std::int64_t>(peak, held);
    }
    bool memoryProfilingEnabled() const override { return true; }
    std::atomic<std::int64_t> now = 0;
    std::int64_t peak = 0;
  };

  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard guard_;
};

}  // namespace espalier
