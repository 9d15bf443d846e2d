#pragma once

#include <cstdint>
#include <string>

#include "espalier/base/value.h"

namespace espalier {

/// A JSON Lines file of a run (training.jsonl, validation.jsonl). Each line is written whole at
/// once, so that a killed process leaves complete lines.
class MetricsLog {
 public:
  /// Opens for appending; lines with a "step" above `keep_steps`, and a torn last line, are dropped
  /// first: a resumed run writes them again.
  MetricsLog(std::string path, std::int64_t keep_steps);
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();

  /// Throws Error(kIo).
  void append(const Value& line);
  /// Makes the lines durable; before a checkpoint that builds on them. Throws Error(kIo).
  void sync();
  /// Step of the last line, also of those that were there; -1 when there is none.
  std::int64_t last_step() const { return last_step_; }
  /// The last line, also of those that were there; null when there is none.
  const Value& last_line() const { return last_line_; }

 private:
  std::string path_;
  int descriptor_ = -1;
  std::int64_t last_step_ = -1;
  Value last_line_;
};

}  // namespace espalier
