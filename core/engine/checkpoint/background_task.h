#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <thread>

namespace espalier {

/// Work on a thread of its own, one piece after the other. Used by one thread.
class BackgroundTask {
 public:
  BackgroundTask() = default;
  BackgroundTask(const BackgroundTask&) = delete;
  BackgroundTask& operator=(const BackgroundTask&) = delete;
  /// Waits for the work.
  ~BackgroundTask();

  /// After `finish`, or first.
  void start(std::function<void()> work);
  /// True as well where nothing was started.
  bool done() const { return done_; }
  /// Waits for the work and throws what it threw.
  void finish();

 private:
  std::thread thread_;
  std::atomic<bool> done_ = true;
  std::exception_ptr failure_;
};

}  // namespace espalier
