#include "engine/train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "engine/run/machine.h"

namespace espalier {
namespace {

using std::chrono::steady_clock;

constexpr auto kPipeInterval = std::chrono::seconds(5);

std::string duration_text(double seconds) {
  const auto total = std::llround(seconds);
  char text[32];
  if (total >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60,
                  total % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", total / 60, total % 60);
  }
  return text;
}

std::size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(std::int64_t total_steps, std::int64_t first_step, bool quiet)
    : total_steps_(total_steps),
      first_step_(first_step),
      quiet_(quiet),
      terminal_(::isatty(STDOUT_FILENO) == 1) {}

std::string Progress::eta() const {
  const double per_step =
      seconds_ / static_cast<double>(std::max<std::int64_t>(1, done_ - first_step_));
  return duration_text(per_step * static_cast<double>(total_steps_ - done_));
}

void Progress::clear_line() {
  if (line_open_) std::fputs("\r\033[K", stdout);
  line_open_ = false;
}

void Progress::step(const StepMetrics& metrics, double step_seconds, std::int64_t resident_bytes) {
  done_ = metrics.step;
  seconds_ += step_seconds;
  if (quiet_) return;
  const auto now = steady_clock::now();
  const bool last = metrics.step == total_steps_;
  const bool first = metrics.step == first_step_ + 1;
  if (!terminal_ && !last && !first && now - last_print_ < kPipeInterval) return;
  last_print_ = now;
  char text[256];
  std::snprintf(text, sizeof text,
                "step %lld/%lld  loss %.4f  lr %.2e  grad norm %.3f  %.0f tok/s  %s  ETA %s",
                static_cast<long long>(metrics.step), static_cast<long long>(total_steps_),
                metrics.loss, metrics.lr, metrics.grad_norm,
                static_cast<double>(metrics.num_tokens) / step_seconds,
                bytes_text(resident_bytes).c_str(), eta().c_str());
  std::string line = text;
  if (terminal_) {
    line = line.substr(0, terminal_width() - 1);
    std::printf("\r\033[K%s", line.c_str());
    line_open_ = true;
  } else {
    std::puts(line.c_str());
  }
  std::fflush(stdout);
}

void Progress::note(const std::string& text) {
  if (quiet_) return;
  clear_line();
  std::puts(text.c_str());
  std::fflush(stdout);
}

void Progress::finish() {
  if (line_open_) std::puts("");
  line_open_ = false;
}

}  // namespace espalier
