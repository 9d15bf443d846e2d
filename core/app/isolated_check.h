#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "espalier/base/check_report.h"

namespace espalier::app {

/// What came of a check that ran in a child process.
struct IsolatedResult {
  conformance::Report report;
  double seconds = 0;
  std::string output;  ///< what the child wrote to stdout and stderr, at most 4 kB of its end
};

/// Runs `check` in a child process made by fork. A crash, an exit, an exception or more time than
/// `limit` fail the check and cost the child alone. The parent must have one thread.
IsolatedResult run_isolated(const std::function<void(conformance::Report&)>& check,
                            std::chrono::seconds limit);

}  // namespace espalier::app
