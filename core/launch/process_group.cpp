#include "launch/process_group.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "launch/listener.h"

namespace espalier::launch {
namespace {

using std::chrono::steady_clock;

constexpr int kStoppedExitCode = 75;
constexpr auto kGrace = std::chrono::seconds(12);  // for the others to notice a failure and say so
constexpr auto kKillAfter = std::chrono::seconds(3);  // after SIGTERM
constexpr int kPollMilliseconds = 100;

volatile std::sig_atomic_t requested_signal = 0;

extern "C" void request_stop(int number) { requested_signal = number; }

/// Lines that ranks wrote to their errors. What all ranks find wrong is said once.
class SaidOnce {
 public:
  /// Whether another rank has said the same.
  bool repeats(const std::string& line, int rank) {
    const auto [entry, fresh] = said_.try_emplace(line, rank);
    return !fresh && entry->second != rank;
  }

 private:
  std::unordered_map<std::string, int> said_;
};

/// Lines of one stream of one process, written out whole.
class LinePipe {
 public:
  /// `said` where lines that other ranks wrote too are left out.
  LinePipe(int descriptor, int rank, std::FILE* target, SaidOnce* said)
      : descriptor_(descriptor),
        rank_(rank),
        prefix_("[rank " + std::to_string(rank) + "] "),
        target_(target),
        said_(said) {}

  int descriptor() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }

  void read_some() {
    char buffer[4096];
    const ssize_t count = ::read(descriptor_, buffer, sizeof buffer);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
      if (!line_.empty()) write_line();
      ::close(descriptor_);
      descriptor_ = -1;
      return;
    }
    for (const char c : std::string_view(buffer, static_cast<std::size_t>(count))) {
      if (c == '\n')
        write_line();
      else
        line_ += c;
    }
  }

 private:
  void write_line() {
    if (said_ == nullptr || !said_->repeats(line_, rank_))
      std::fprintf(target_, "%s%s\n", prefix_.c_str(), line_.c_str());
    std::fflush(target_);
    line_.clear();
  }

  int descriptor_;
  int rank_;
  std::string prefix_;
  std::FILE* target_;
  SaidOnce* said_;
  std::string line_;
};

struct Child {
  int rank = 0;
  pid_t process = -1;
  std::optional<int> status;  ///< as of waitpid, once it has ended
};

/// Writes what follows into the child's own environment; runs between fork and exec.
void set_variable(const char* name, const std::string& value) {
  ::setenv(name, value.c_str(), /*overwrite=*/1);
}

class ProcessGroup {
 public:
  explicit ProcessGroup(const LaunchOptions& options) : options_(options) {
    if (options.nodes == 1) listener_ = std::make_unique<Listener>();
    for (int i = 0; i < options.processes; ++i) start(i);
    listener_.reset();
  }
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;
  ~ProcessGroup() { signal_all(SIGKILL); }

  /// Whether a process ended because it was asked to.
  bool stopped() const {
    return std::any_of(children_.begin(), children_.end(), [](const Child& child) {
      return child.status && WIFEXITED(*child.status) &&
             WEXITSTATUS(*child.status) == kStoppedExitCode;
    });
  }

  /// Until all have ended; returns the first that failed.
  std::optional<Child> wait() {
    std::optional<Child> first;
    while (running() > 0 || any_pipe_open()) {
      pass_lines();
      if (requested_signal != 0) {
        signal_all(requested_signal);
        requested_signal = 0;
      }
      collect(first);
      if (first) end_others();
      // What a killed process started may keep the pipes open; nothing more is expected of it.
      if (running() == 0 && !pass_lines()) break;
    }
    return first;
  }

 private:
  void start(int local_rank);
  [[noreturn]] void become(int local_rank, int out, int err);

  std::size_t running() const {
    return static_cast<std::size_t>(std::count_if(
        children_.begin(), children_.end(), [](const Child& child) { return !child.status; }));
  }
  bool any_pipe_open() const {
    return std::any_of(pipes_.begin(), pipes_.end(), [](const LinePipe& p) { return p.open(); });
  }
  bool pass_lines();
  void collect(std::optional<Child>& first);
  void end_others();
  void signal_all(int number) {
    for (const Child& child : children_) {
      if (!child.status) ::kill(child.process, number);
    }
  }

  const LaunchOptions& options_;
  std::unique_ptr<Listener> listener_;
  std::vector<Child> children_;
  SaidOnce said_;
  std::vector<LinePipe> pipes_;
  std::optional<steady_clock::time_point> failed_at_;
  bool terminated_ = false;
};

void ProcessGroup::become(int local_rank, int out, int err) {
  const int rank = options_.node_rank * options_.processes + local_rank;
  // A group of its own: Ctrl-C reaches the launcher alone, which passes it on once.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  set_variable("RANK", std::to_string(rank));
  set_variable("WORLD_SIZE", std::to_string(options_.nodes * options_.processes));
  set_variable("LOCAL_RANK", std::to_string(local_rank));
  set_variable("LOCAL_WORLD_SIZE", std::to_string(options_.processes));
  set_variable("MASTER_ADDR",
               options_.master_address.empty() ? "127.0.0.1" : options_.master_address);
  set_variable("MASTER_PORT", std::to_string(listener_ ? listener_->port() : options_.master_port));
  if (listener_ && rank == 0) {
    ::fcntl(listener_->descriptor(), F_SETFD, 0);  // kept over exec
    set_variable("ESPALIER_LISTEN_DESCRIPTOR", std::to_string(listener_->descriptor()));
  }
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
    set_variable("OMP_NUM_THREADS",
                 std::to_string(std::max(1U, cores / static_cast<unsigned>(options_.processes))));
  }
  if (out >= 0) ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  std::vector<char*> arguments;
  for (const std::string& word : options_.command)
    arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

void ProcessGroup::start(int local_rank) {
  const int rank = options_.node_rank * options_.processes + local_rank;
  int out[2] = {-1, -1};
  int err[2] = {-1, -1};
  if ((rank != 0 && ::pipe2(out, O_CLOEXEC) != 0) || ::pipe2(err, O_CLOEXEC) != 0)
    throw_io("make", "a pipe", errno);
  std::fflush(nullptr);
  const pid_t process = ::fork();
  if (process < 0) throw_io("start", "a process", errno);
  if (process == 0) become(local_rank, out[1], err[1]);
  children_.push_back({rank, process, std::nullopt});
  if (rank != 0) {
    ::close(out[1]);
    pipes_.emplace_back(out[0], rank, stdout, nullptr);
  }
  ::close(err[1]);
  pipes_.emplace_back(err[0], rank, stderr, &said_);
}

/// Whether anything arrived.
bool ProcessGroup::pass_lines() {
  std::vector<pollfd> waiting;
  std::vector<LinePipe*> readers;
  for (LinePipe& pipe : pipes_) {
    if (!pipe.open()) continue;
    waiting.push_back({pipe.descriptor(), POLLIN, 0});
    readers.push_back(&pipe);
  }
  if (::poll(waiting.data(), waiting.size(), kPollMilliseconds) <= 0) return false;
  bool any = false;
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    if (waiting[i].revents == 0) continue;
    readers[i]->read_some();
    any = true;
  }
  return any;
}

void ProcessGroup::collect(std::optional<Child>& first) {
  for (Child& child : children_) {
    int status = 0;
    if (child.status || ::waitpid(child.process, &status, WNOHANG) != child.process) continue;
    child.status = status;
    const bool fine =
        WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kStoppedExitCode);
    // Of several that fail at about the same time, one that only noticed another's end is not the
    // first.
    const bool noticed =
        WIFEXITED(status) && WEXITSTATUS(status) == exit_code(ErrorCode::kPeerFailed);
    const bool replaces = first && WIFEXITED(*first->status) &&
                          WEXITSTATUS(*first->status) == exit_code(ErrorCode::kPeerFailed) &&
                          !noticed && !terminated_;
    if (!fine && (!first || replaces)) first = child;
    if (!fine && !failed_at_) failed_at_ = steady_clock::now();
  }
}

void ProcessGroup::end_others() {
  const auto since = steady_clock::now() - *failed_at_;
  if (since > kGrace + kKillAfter) {
    signal_all(SIGKILL);
  } else if (since > kGrace && !terminated_) {
    terminated_ = true;
    signal_all(SIGTERM);
  }
}

}  // namespace

int run_processes(const LaunchOptions& options) {
  requested_signal = 0;
  struct sigaction action {};
  action.sa_handler = request_stop;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
  ProcessGroup group(options);
  const std::optional<Child> failed = group.wait();
  if (!failed) {
    return group.stopped() ? kStoppedExitCode : 0;
  }
  if (WIFEXITED(*failed->status)) {
    std::fprintf(stderr, "rank %d ended first, with exit code %d\n", failed->rank,
                 WEXITSTATUS(*failed->status));
    return WEXITSTATUS(*failed->status);
  }
  const int number = WTERMSIG(*failed->status);
  throw Error(Problem{ErrorCode::kPeerFailed,
                      "rank " + std::to_string(failed->rank) + " was ended by a signal",
                      "signal " + std::to_string(number) + " (" + ::strsignal(number) + ")",
                      {},
                      {},
                      number == SIGKILL ? "the system ends processes so when memory runs out; run "
                                          "the same command again to go on from the newest "
                                          "checkpoint"
                                        : "run the same command again to go on from the newest "
                                          "checkpoint"});
}

}  // namespace espalier::launch
