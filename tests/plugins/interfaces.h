#pragma once

#include <string>

#include "espalier/base/registrar.h"

/// Small interfaces under the names that recipes use, so that the host can be tested without
/// LibTorch.
namespace espalier::testing {

struct Dataset {
  static constexpr InterfaceId kInterface{"Dataset", 1};
  virtual ~Dataset() = default;
  virtual std::string describe() const = 0;
};

struct Loss {
  static constexpr InterfaceId kInterface{"Loss", 1};
  virtual ~Loss() = default;
  virtual std::string describe() const = 0;
};

struct Optimizer {
  static constexpr InterfaceId kInterface{"Optimizer", 1};
  virtual ~Optimizer() = default;
  virtual std::string describe() const = 0;
};

struct Objective {
  static constexpr InterfaceId kInterface{"Objective", 1};
  virtual ~Objective() = default;
  virtual std::string describe() const = 0;
};

struct LrScheduler {
  static constexpr InterfaceId kInterface{"LrScheduler", 1};
  virtual ~LrScheduler() = default;
  virtual std::string describe() const = 0;
};

struct ParallelStrategy {
  static constexpr InterfaceId kInterface{"ParallelStrategy", 1};
  virtual ~ParallelStrategy() = default;
  virtual std::string describe() const = 0;
};

}  // namespace espalier::testing
