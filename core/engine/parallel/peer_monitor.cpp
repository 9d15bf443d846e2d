#include "engine/parallel/peer_monitor.h"

#include <unistd.h>

#include <cstdio>
#include <map>
#include <sstream>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace espalier {
namespace {

using std::chrono::steady_clock;

constexpr auto kBeatInterval = std::chrono::milliseconds(1000);
constexpr auto kLookInterval = std::chrono::milliseconds(2500);  // more than two beats

std::string beat_key(int rank) { return "beat/" + std::to_string(rank); }
std::string failure_key(int rank) { return "failure/" + std::to_string(rank); }

std::vector<std::uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

std::string text_of(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

std::string seconds_of(std::chrono::milliseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count());
}

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

}  // namespace

PeerMonitor::PeerMonitor(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                         std::chrono::milliseconds peer_timeout)
    : store_(std::move(store)), rank_(rank), size_(size), peer_timeout_(peer_timeout) {
  send_beat();
  watcher_ = std::thread([this] { watch(); });
  guard_ = std::thread([this] { guard(); });
}

PeerMonitor::~PeerMonitor() { stop(); }

void PeerMonitor::stop() {
  silence();
  if (watcher_.joinable()) watcher_.join();
  if (guard_.joinable()) guard_.join();
}

void PeerMonitor::silence() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

void PeerMonitor::enter(std::int64_t number, const std::string& what) {
  const std::lock_guard lock(mutex_);
  collective_ = number;
  what_ = what;
}

void PeerMonitor::leave() {
  const std::lock_guard lock(mutex_);
  what_.clear();
}

void PeerMonitor::send_beat() {
  std::ostringstream text;
  {
    const std::lock_guard lock(mutex_);
    text << ++count_ << ' ' << step_ << ' ' << collective_ << ' ' << what_;
  }
  const std::lock_guard lock(store_mutex_);
  store_->set(beat_key(rank_), bytes(text.str()));
}

PeerMonitor::Beat PeerMonitor::read_beat(int rank) {
  Beat beat;
  const std::lock_guard lock(store_mutex_);
  if (!store_->check({beat_key(rank)})) return beat;
  std::istringstream text(text_of(store_->get(beat_key(rank))));
  text >> beat.count >> beat.step >> beat.collective;
  text.ignore(1);
  std::getline(text, beat.what);
  return beat;
}

std::string PeerMonitor::read_failure(int rank) {
  const std::lock_guard lock(store_mutex_);
  if (!store_->check({failure_key(rank)})) return {};
  return text_of(store_->get(failure_key(rank)));
}

void PeerMonitor::report_failure(const std::string& why) {
  try {
    // The watcher may be waiting for an answer that never comes.
    const std::unique_lock lock(store_mutex_, kBeatInterval);
    if (lock.owns_lock()) store_->set(failure_key(rank_), bytes(why));
  } catch (const std::exception&) {
    // The store is gone, and whoever would have read it: this rank's own message stands.
  }
}

std::string PeerMonitor::where() const {
  return "rank " + std::to_string(rank_) + " of " + std::to_string(size_) + ", step " +
         std::to_string(step_);
}

void PeerMonitor::end_run(const std::string& what, const std::string& hint) {
  const Problem problem{ErrorCode::kPeerFailed, what, {}, {}, where(), hint};
  std::fprintf(stderr, "%s\n", Error(problem).what());
  std::fflush(stderr);
  ::_exit(exit_code(ErrorCode::kPeerFailed));
}

/// Whether the watch goes on.
bool PeerMonitor::wait_for_next_beat() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kBeatInterval, [&] { return stopping_ || explaining_; });
  return !stopping_ && !explaining_;
}

void PeerMonitor::watch() {
  // Rank 0 hears all, the others rank 0 alone: n messages a second, not n squared.
  std::vector<int> watched;
  for (int rank = 0; rank < (rank_ == 0 ? size_ : 1); ++rank) {
    if (rank != rank_) watched.push_back(rank);
  }
  struct Heard {
    std::int64_t count = -1;
    steady_clock::time_point at = steady_clock::now();
  };
  std::map<int, Heard> heard;
  while (wait_for_next_beat()) {
    try {
      send_beat();
      for (const int rank : watched) {
        const std::int64_t count = read_beat(rank).count;
        Heard& last = heard[rank];
        if (last.count != count) last = {count, steady_clock::now()};
        if (steady_clock::now() - last.at <= peer_timeout_ || !is_watching()) continue;
        const std::string text = list_of({rank}) + " has given no sign of life for " +
                                 seconds_of(peer_timeout_) + " seconds";
        report_failure(text);
        end_run(text, "its process was stopped, or its machine or network is down");
      }
      alive_at_ = steady_clock::now();
    } catch (const std::exception&) {
      // The store is gone. The main thread is likely to meet the same end and to say more of it;
      // the guard ends the run if it does not.
    }
  }
}

bool PeerMonitor::is_watching() {
  const std::lock_guard lock(mutex_);
  return !stopping_ && !explaining_;
}

/// Ends the run when the watcher gets no answers: it can't do so itself while it waits for one.
void PeerMonitor::guard() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, kBeatInterval, [&] { return stopping_; });
    if (stopping_ || steady_clock::now() - alive_at_.load() <= peer_timeout_ + 2 * kLookInterval)
      continue;
    end_run("rank 0 has given no sign of life for " + seconds_of(peer_timeout_) + " seconds",
            "its process was stopped or ended, or its machine or network is down");
  }
}

Error PeerMonitor::explain(const std::string& what, const std::string& cause) {
  {
    const std::lock_guard lock(mutex_);
    explaining_ = true;
  }
  changed_.notify_all();
  Problem problem{ErrorCode::kPeerFailed,
                  "the collective '" + what + "' failed",
                  cause,
                  {},
                  where(),
                  "run the same command again to go on from the newest checkpoint"};
  alive_at_ = steady_clock::now();  // the guard sees to it that the questions below have an end
  try {
    std::vector<Beat> before;
    before.reserve(static_cast<std::size_t>(size_));
    for (int rank = 0; rank < size_; ++rank) before.push_back(read_beat(rank));
    const auto end = steady_clock::now() + kLookInterval;
    while (steady_clock::now() < end) {
      send_beat();  // the others may be looking at this one
      std::this_thread::sleep_for(kBeatInterval / 2);
    }
    std::vector<int> silent;
    std::vector<int> behind;
    std::string failures;
    for (int rank = 0; rank < size_; ++rank) {
      if (rank == rank_) continue;
      const Beat now = read_beat(rank);
      const std::string failure = read_failure(rank);
      if (!failure.empty())
        failures += (failures.empty() ? "" : "; ") + list_of({rank}) + " failed: " + failure;
      else if (now.count == before[static_cast<std::size_t>(rank)].count)
        silent.push_back(rank);
      else if (now.collective < collective_)
        behind.push_back(rank);
    }
    std::string found = failures;
    if (!silent.empty())
      found += (found.empty() ? "" : "; ") + list_of(silent) +
               (silent.size() == 1 ? " has ended or hangs" : " have ended or hang");
    if (!behind.empty())
      found += (found.empty() ? "" : "; ") + list_of(behind) +
               (behind.size() == 1 ? " has not arrived" : " have not arrived") +
               ", the first in step " + std::to_string(read_beat(behind.front()).step);
    if (!found.empty()) problem.found = found;
  } catch (const std::exception&) {
    problem.found = "rank 0 has ended, or can't be reached";
  }
  return Error(std::move(problem));
}

}  // namespace espalier
