#pragma once

#include <c10/util/intrusive_ptr.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "espalier/base/error.h"

namespace c10d {
class Store;
}

namespace espalier {

/// Watches over the processes of a run: each gives a sign of life every second, through a store
/// connection of its own, with the step and the collective that it is in. Rank 0 looks at all of
/// them and every rank at rank 0: one that stays silent ends the run, and so does a failure that a
/// rank reported. So a process that was stopped, or whose machine went away, is named within
/// `peer_timeout`, wherever the others are.
class PeerMonitor {
 public:
  PeerMonitor(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
              std::chrono::milliseconds peer_timeout);
  PeerMonitor(const PeerMonitor&) = delete;
  PeerMonitor& operator=(const PeerMonitor&) = delete;
  ~PeerMonitor();

  void set_step(std::int64_t step) { step_ = step; }
  /// This rank waits in a collective, the `number`th of its run.
  void enter(std::int64_t number, const std::string& what);
  void leave();
  /// No more signs of life are given or expected.
  void stop();
  /// The same, without waiting for the threads: one may be waiting for an answer of a dead rank.
  void silence();
  /// Tells the others why this rank ends.
  void report_failure(const std::string& why);
  /// The Error of a collective that failed: looks for some seconds which ranks are silent, have
  /// reported a failure, or have not arrived.
  Error explain(const std::string& what, const std::string& cause);

 private:
  struct Beat {
    std::int64_t count = -1;  ///< -1: never heard of
    std::int64_t step = 0;
    std::int64_t collective = 0;  ///< entered last
    std::string what;             ///< empty: computing
  };

  void watch();
  void guard();
  bool wait_for_next_beat();
  bool is_watching();
  void send_beat();
  Beat read_beat(int rank);
  std::string read_failure(int rank);
  /// Ends this process with a message; the main thread may be waiting for ever.
  [[noreturn]] void end_run(const std::string& what, const std::string& hint);
  std::string where() const;

  c10::intrusive_ptr<c10d::Store> store_;
  int rank_;
  int size_;
  std::chrono::milliseconds peer_timeout_;
  std::atomic<std::int64_t> step_ = 0;
  std::int64_t count_ = 0;

  std::timed_mutex store_mutex_;  ///< two threads use the connection while a failure is explained
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t collective_ = 0;
  std::string what_;
  bool stopping_ = false;
  bool explaining_ = false;  ///< the main thread knows of the failure already
  std::atomic<std::chrono::steady_clock::time_point> alive_at_ = std::chrono::steady_clock::now();
  std::thread watcher_;  ///< asks and answers
  std::thread guard_;    ///< watches the watcher
};

}  // namespace espalier
