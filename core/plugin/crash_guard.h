#pragma once

#include <array>
#include <csignal>
#include <cstddef>
#include <string>

namespace espalier::plugin {

/// While one lives, a crash of the process (abort, bad access, illegal instruction) is reported as
/// the fault of the plugin that is being loaded, and the program leaves with the exit code of a bad
/// plugin. For the main thread; one at a time.
class CrashGuard {
 public:
  explicit CrashGuard(const std::string& plugin, const std::string& path);
  CrashGuard(const CrashGuard&) = delete;
  CrashGuard& operator=(const CrashGuard&) = delete;
  ~CrashGuard();

 private:
  static constexpr std::array<int, 5> kSignals = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
  std::array<struct sigaction, kSignals.size()> previous_{};
};

}  // namespace espalier::plugin
