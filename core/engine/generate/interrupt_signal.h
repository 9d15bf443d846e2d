#pragma once

#include <csignal>

namespace espalier {

/// While alive, SIGINT (Ctrl-C) sets a mark and interrupts a read, instead of ending the process.
/// One at a time.
class InterruptSignal {
 public:
  InterruptSignal();
  InterruptSignal(const InterruptSignal&) = delete;
  InterruptSignal& operator=(const InterruptSignal&) = delete;
  ~InterruptSignal();

  /// Whether a signal came since the last question.
  static bool take();

 private:
  struct sigaction before_ {};
};

}  // namespace espalier
