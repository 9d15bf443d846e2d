#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "espalier/base/value.h"

namespace espalier {

/// The newest line of each log of a run: "training", "validation", "validation_NAME".
using LatestLines = std::map<std::string, Value>;

/// What a MetricWatch has seen; saved in checkpoints.
struct WatchState {
  std::int64_t looked_at = -1;  ///< step of the last look; -1: none
  std::int64_t best_step = -1;
  double best = 0.0;
  std::int64_t looks_since = 0;  ///< looks after that of the best value

  Value to_value() const;
  static WatchState from_value(const Value& value);
};

/// Follows one number of the logs and knows its best value.
class ESPALIER_API MetricWatch {
 public:
  /// `metric` is a log and a number of its lines, "validation.loss" or "training.terms.ce"; `mode`
  /// "min" or "max"; a value is better when it is so by more than `min_delta`. `section` is the
  /// recipe's, for messages.
  MetricWatch(std::string metric, const std::string& mode, double min_delta, std::string section);

  const std::string& metric() const { return metric_; }
  /// The log that the metric is in. Throws Error(kBadInput) when it is none of `sources`.
  std::string check_source(const std::vector<std::string>& sources) const;

  /// Takes the value of the newest line into account; true when it is the best so far. A value that
  /// is no finite number never is. Throws Error(kBadInput) when the line has no such number, with
  /// those that it has.
  bool look(std::int64_t step, const LatestLines& lines);

  const WatchState& state() const { return state_; }
  void set_state(const WatchState& state) { state_ = state; }

 private:
  double value_in(const LatestLines& lines) const;

  std::string metric_;
  bool less_is_better_;
  double min_delta_;
  std::string section_;
  WatchState state_;
};

}  // namespace espalier
