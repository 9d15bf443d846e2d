#pragma once

namespace espalier {

/// While alive, the first SIGINT or SIGTERM asks the training loop to stop at the next step
/// boundary; the second ends the process at once, as without this object. One at a time.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();

  /// The signal that arrived, or 0.
  static int received();
};

/// Exit code of a run that stopped on a signal after it saved a checkpoint; running it again goes
/// on.
inline constexpr int kStoppedExitCode = 75;

}  // namespace espalier
