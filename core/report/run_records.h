#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "report/metric_log.h"

namespace espalier::report {

enum class RunStatus {
  kTraining,  ///< a process holds the run folder
  kFinished,  ///< the last step was made
  kStopped,   ///< neither
};

/// What a run wrote to its folder.
class RunRecords {
 public:
  /// Throws Error(kBadInput) for a folder that no run has written to.
  explicit RunRecords(const std::string& folder);

  /// Reads what is new; true when something was.
  bool update();

  const std::string& folder() const { return folder_; }
  const MetricLog& training() const { return training_; }
  /// "validation", "validation_NAME" -> its log.
  const std::map<std::string, MetricLog>& validation() const { return validation_; }
  /// Steps that the run wants to make; nullopt: not known.
  std::optional<std::int64_t> total_steps() const;
  /// As resolved; empty when there is none.
  const Value& recipe() const { return recipe_; }
  /// `plugins` of plugins.lock.
  const Array& plugins() const { return plugins_; }
  /// run.json: facts of the machine and the model.
  const Value& facts() const { return facts_; }
  RunStatus status() const;

  /// Lines of samples.jsonl: texts that the model wrote at validations.
  Array read_samples() const { return read_lines("samples.jsonl"); }
  /// Lines of statistics.jsonl: gradients and activations of each block at some steps.
  Array read_statistics() const { return read_lines("statistics.jsonl"); }

 private:
  /// The lines of a JSON Lines file of the folder; none where there is no such file.
  Array read_lines(const char* file) const;
  void find_validation_logs();

  std::string folder_;
  MetricLog training_;
  std::map<std::string, MetricLog> validation_;
  Value recipe_{Table()};
  Array plugins_;
  Value facts_{Table()};
};

/// A number with three to four digits that count: "0.00123", "12.3k" for counts.
std::string short_number(double value);
/// "1:02:03", "4:05".
std::string duration_text(double seconds);
/// "1.25 GB".
std::string bytes_text(double bytes);

}  // namespace espalier::report
