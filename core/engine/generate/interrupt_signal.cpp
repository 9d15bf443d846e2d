#include "engine/generate/interrupt_signal.h"

namespace espalier {
namespace {

volatile std::sig_atomic_t interrupted = 0;

extern "C" void mark_interrupt(int /*number*/) { interrupted = 1; }

}  // namespace

InterruptSignal::InterruptSignal() {
  interrupted = 0;
  struct sigaction action {};
  action.sa_handler = mark_interrupt;  // no SA_RESTART: a read that waits ends
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &before_);
}

InterruptSignal::~InterruptSignal() { ::sigaction(SIGINT, &before_, nullptr); }

bool InterruptSignal::take() {
  const bool came = interrupted != 0;
  interrupted = 0;
  return came;
}

}  // namespace espalier
