#pragma once

#include <cstdint>
#include <string>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/base/value.h"

namespace espalier {

/// The run that a logger is told about.
struct LoggedRun {
  std::string folder;  ///< the run folder, which exists
  /// The last step that stays of an earlier part of the run; what was logged of later ones will
  /// come again. 0: the run begins.
  std::int64_t resumed_after = 0;
  Value recipe;  ///< as resolved, a table of sections
};

/// Hears the numbers of a training run, beside the run's own JSON Lines files: a recipe's sections
/// [logger] and [logger_NAME] name such components. Called by one thread; a failure ends the run,
/// so throw for what the user should know and for nothing else.
class ESPALIER_API Logger {
 public:
  static constexpr InterfaceId kInterface{"Logger", 1};

  Logger() = default;
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  virtual ~Logger();

  /// Once, before everything else.
  virtual void start(const LoggedRun& run) = 0;
  /// A line of numbers: `source` is "training", "validation" or "validation_NAME"; `values` is a
  /// table with numbers, and tables of numbers (the terms of a loss).
  virtual void log(const std::string& source, std::int64_t step, const Value& values) = 0;
  /// A text that the model wrote, such as the answer to a prompt. By default nothing.
  virtual void log_text(const std::string& name, std::int64_t step, const std::string& text);
  /// Makes what was logged durable: before a checkpoint, and at the end.
  virtual void flush() = 0;
};

}  // namespace espalier
