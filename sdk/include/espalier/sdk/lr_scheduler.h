#pragma once

#include <cstdint>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"

namespace espalier {

/// A learning rate as a closed function of the step, so that resuming needs no state. Any number of
/// threads; settings that make no sense are an Error of the constructor, none of a step.
class ESPALIER_API LrScheduler {
 public:
  static constexpr InterfaceId kInterface{"LrScheduler", 1};

  LrScheduler() = default;
  LrScheduler(const LrScheduler&) = delete;
  LrScheduler& operator=(const LrScheduler&) = delete;
  virtual ~LrScheduler();

  /// Rate that optimizer step `step` (from 0) uses. `total_steps` is the length of the run.
  virtual double lr(std::int64_t step, double base_lr, std::int64_t total_steps) const = 0;
};

}  // namespace espalier
