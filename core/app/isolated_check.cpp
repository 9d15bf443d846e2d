#include "app/isolated_check.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier::app {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kShownOutput = 4096;

struct Pipe {
  std::array<int, 2> ends{};
  Pipe() {
    if (::pipe(ends.data()) != 0) throw_io("make", "a pipe", errno);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    for (const int end : ends) {
      if (end >= 0) ::close(end);
    }
  }
  void close_end(int which) { ::close(std::exchange(ends[static_cast<std::size_t>(which)], -1)); }
};

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(descriptor, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

[[noreturn]] void be_the_child(const std::function<void(conformance::Report&)>& check, int result,
                               int output) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  conformance::Report report;
  try {
    check(report);
  } catch (const Error& error) {
    for (const Problem& problem : error.problems())
      report.fail(problem.what, problem.found, problem.expected, problem.hint);
  } catch (const std::exception& error) {
    report.fail("the check ended in an exception", error.what());
  } catch (...) {
    report.fail("the check ended in something thrown that is not a std::exception");
  }
  write_all(result, dump_json(report.to_value()));
  std::fflush(nullptr);
  ::_exit(0);
}

/// Reads both pipes until the child has closed them or the time is up; false when it is.
bool read_until(Clock::time_point end, std::array<pollfd, 2> pipes,
                std::array<std::string*, 2> texts) {
  while (pipes[0].fd >= 0 || pipes[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    if (::poll(pipes.data(), pipes.size(), static_cast<int>(left.count())) < 0 && errno != EINTR)
      throw_io("wait for", "a check", errno);
    for (std::size_t i = 0; i < pipes.size(); ++i) {
      if (pipes[i].fd < 0 || pipes[i].revents == 0) continue;
      std::array<char, 4096> buffer{};
      const ssize_t count = ::read(pipes[i].fd, buffer.data(), buffer.size());
      if (count > 0) texts[i]->append(buffer.data(), static_cast<std::size_t>(count));
      if (count == 0 || (count < 0 && errno != EINTR)) pipes[i].fd = -1;
    }
  }
  return true;
}

conformance::Report report_of(const std::string& result, int status, bool in_time,
                              std::chrono::seconds limit) {
  if (in_time && !result.empty()) return conformance::Report::from_value(parse_json(result));
  conformance::Report report;
  if (!in_time) {
    report.fail("the check did not end within " + std::to_string(limit.count()) + " s", {}, {},
                "look for a loop or a lock; --timeout gives it more time");
  } else if (WIFSIGNALED(status)) {
    report.fail("the plugin crashed",
                std::string("signal ") + ::strsignal(WTERMSIG(status)) + " (" +
                    std::to_string(WTERMSIG(status)) + ")",
                "an Error, or no failure",
                "run the same command under gdb: gdb --args espalier plugins validate ...");
  } else {
    report.fail("the plugin ended the process", "exit code " + std::to_string(WEXITSTATUS(status)),
                "a plugin never calls exit", "throw Error instead");
  }
  return report;
}

}  // namespace

IsolatedResult run_isolated(const std::function<void(conformance::Report&)>& check,
                            std::chrono::seconds limit) {
  Pipe result;
  Pipe output;
  std::fflush(nullptr);
  const Clock::time_point start = Clock::now();
  const pid_t child = ::fork();
  if (child < 0) throw_io("start", "a child process", errno);
  if (child == 0) be_the_child(check, result.ends[1], output.ends[1]);
  result.close_end(1);
  output.close_end(1);

  std::string text;
  IsolatedResult found;
  const bool in_time =
      read_until(start + limit, {{{result.ends[0], POLLIN, 0}, {output.ends[0], POLLIN, 0}}},
                 {&text, &found.output});
  if (!in_time) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  found.report = report_of(text, status, in_time, limit);
  found.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (found.output.size() > kShownOutput) found.output.erase(0, found.output.size() - kShownOutput);
  return found;
}

}  // namespace espalier::app
