#include "plugin/crash_guard.h"

#include <unistd.h>

#include <atomic>

#include "espalier/base/error.h"

namespace espalier::plugin {
namespace {

// Composed before the signal: a handler may not allocate.
std::string* message_of_the_handler = nullptr;
std::atomic<int> exit_code_of_the_handler{0};

void report_and_leave(int) {
  const std::string& message = *message_of_the_handler;
  std::size_t written = 0;
  while (written < message.size()) {
    const ssize_t count =
        ::write(STDERR_FILENO, message.data() + written, message.size() - written);
    if (count <= 0) break;
    written += static_cast<std::size_t>(count);
  }
  ::_exit(exit_code_of_the_handler);
}

}  // namespace

CrashGuard::CrashGuard(const std::string& plugin, const std::string& path) {
  const Problem problem{ErrorCode::kBadPlugin,
                        "the program crashed while loading plugin '" + plugin + "'",
                        {},
                        "a library that can be loaded and registers its components",
                        path,
                        "remove the plugin, or rebuild it and look for code that runs before main"};
  delete message_of_the_handler;
  message_of_the_handler = new std::string(problem.to_string() + "\n");
  exit_code_of_the_handler = exit_code(problem.code);
  struct sigaction action {};
  action.sa_handler = report_and_leave;
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    ::sigaction(kSignals[i], &action, &previous_[i]);
}

CrashGuard::~CrashGuard() {
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    ::sigaction(kSignals[i], &previous_[i], nullptr);
}

}  // namespace espalier::plugin
