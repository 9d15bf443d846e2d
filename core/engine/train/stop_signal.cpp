#include "engine/train/stop_signal.h"

#include <csignal>

namespace espalier {
namespace {

volatile std::sig_atomic_t received_signal = 0;

extern "C" void remember_signal(int number) {
  received_signal = number;
  std::signal(number, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  received_signal = 0;
  std::signal(SIGINT, remember_signal);
  std::signal(SIGTERM, remember_signal);
}

StopSignal::~StopSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

int StopSignal::received() { return received_signal; }

}  // namespace espalier
