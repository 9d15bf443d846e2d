#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "espalier/sdk/dataset.h"

namespace espalier {

/// Makes samples on threads, ahead of the one that is wanted, and hands them out in order.
class SampleQueue {
 public:
  /// `make` is called on several threads at once. `ahead`: samples made before they are wanted, at
  /// most.
  SampleQueue(std::function<Sample(std::int64_t number)> make, std::int64_t first,
              std::int64_t threads, std::int64_t ahead);
  SampleQueue(const SampleQueue&) = delete;
  SampleQueue& operator=(const SampleQueue&) = delete;
  ~SampleQueue();

  /// Sample `number`; numbers only rise, and those that are left out are lost. Rethrows what
  /// `make` threw.
  Sample take(std::int64_t number);

 private:
  void work();

  std::function<Sample(std::int64_t)> make_;
  std::int64_t ahead_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, std::pair<Sample, std::exception_ptr>> ready_;
  std::int64_t claimed_;  ///< next number that a thread makes
  std::int64_t wanted_;   ///< next number that `take` is expected to ask for
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace espalier
