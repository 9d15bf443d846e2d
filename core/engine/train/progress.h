#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "engine/train/train_step.h"

namespace espalier {

/// Tells a person how a run is going. In a terminal one line that is redrawn; in a pipe or file a
/// line now and then; with `quiet` nothing. Writes to stdout.
class Progress {
 public:
  Progress(std::int64_t total_steps, std::int64_t first_step, bool quiet);

  void step(const StepMetrics& metrics, double step_seconds, std::int64_t resident_bytes);
  /// A message on a line of its own, above the progress line.
  void note(const std::string& text);
  /// Ends the progress line.
  void finish();

 private:
  std::string eta() const;
  void clear_line();

  std::int64_t total_steps_;
  std::int64_t first_step_;
  bool quiet_;
  bool terminal_;
  bool line_open_ = false;
  std::int64_t done_ = 0;
  double seconds_ = 0.0;  ///< in steps, without validation and saving
  std::chrono::steady_clock::time_point last_print_{};
};

}  // namespace espalier
