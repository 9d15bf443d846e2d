#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/sdk/communicator.h"

namespace espalier::conformance {

/// Ranks as threads of one process, with collectives that are late and out of order on purpose:
/// what a collective will write is filled with NaN until it completes, inputs are read only then,
/// and of those that are under way any may complete first. Code that forgets to wait, or touches an
/// input too early, computes nonsense.
class ESPALIER_API ThreadWorld {
 public:
  explicit ThreadWorld(int size, unsigned seed = 1);
  ThreadWorld(const ThreadWorld&) = delete;
  ThreadWorld& operator=(const ThreadWorld&) = delete;
  ~ThreadWorld();

  /// Runs `work` on a thread for every rank and returns when all have ended. A rank that throws
  /// releases the others; the first exception is thrown here.
  void run(const std::function<void(World& world)>& work);

  class Exchange;

 private:
  int size_;
  std::shared_ptr<Exchange> exchange_;
};

}  // namespace espalier::conformance
