// espalier watch: the curves of a run in the terminal, while it trains.
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "app/command.h"
#include "app/options.h"
#include "app/terminal.h"
#include "report/watch_frame.h"

namespace espalier::app {
namespace {

constexpr int kPollMilliseconds = 500;
constexpr char kControlC = 3;

volatile std::sig_atomic_t must_leave = 0;
volatile std::sig_atomic_t was_resized = 0;

extern "C" void note_leaving(int) { must_leave = 1; }
extern "C" void note_resizing(int) { was_resized = 1; }

/// The terminal as a full screen of ours: no echo, keys one by one, the cursor hidden. What was on
/// it comes back at the end.
class Screen {
 public:
  Screen() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios mode = before_;
    // Ctrl-C and Ctrl-Z arrive as keys, so that the screen is always given back first.
    mode.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    mode.c_cc[VMIN] = 0;
    mode.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &mode);
    std::fputs("\033[?1049h\033[?25l", stdout);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, note_leaving);
    struct sigaction resize {};
    resize.sa_handler = note_resizing;  // without SA_RESTART: it ends the wait for a key
    ::sigaction(SIGWINCH, &resize, nullptr);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() {
    std::fputs("\033[?25h\033[?1049l", stdout);
    std::fflush(stdout);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }

  static void show(const std::vector<std::string>& lines, std::size_t height) {
    std::string text = "\033[H";
    for (std::size_t i = 0; i < height; ++i) {
      if (i < lines.size()) text += lines[i];
      text += i + 1 < height ? "\033[K\n" : "\033[K";
    }
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

 private:
  termios before_{};
};

/// Size of the terminal, or of COLUMNS and LINES where there is none.
void measure(report::WatchView& view) {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 1 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
      size.ws_col > 0 && size.ws_row > 0) {
    view.width = size.ws_col;
    view.height = size.ws_row;
    return;
  }
  const auto number = [](const char* name, std::size_t otherwise) {
    const char* text = std::getenv(name);
    const long value = text == nullptr ? 0 : std::strtol(text, nullptr, 10);
    return value > 0 && value <= 1000 ? static_cast<std::size_t>(value) : otherwise;
  };
  view.width = number("COLUMNS", 80);
  view.height = number("LINES", 24);
}

/// False to leave. Waits until there is something new to show.
bool wait_for_change(report::RunRecords& run, report::WatchView& view) {
  while (true) {
    pollfd keys{STDIN_FILENO, POLLIN, 0};
    if (::poll(&keys, 1, kPollMilliseconds) > 0) {
      char key = 0;
      if (::read(STDIN_FILENO, &key, 1) != 1) return false;  // the terminal is gone
      switch (key) {
        case 'q':
        case 'Q':
        case kControlC: return false;
        case 'l': view.log = !view.log; return true;
        case 'w':
          view.window = view.window == 1.0 ? 0.5 : view.window == 0.5 ? 0.1 : 1.0;
          return true;
        default: break;
      }
    }
    if (must_leave != 0) return false;
    if (was_resized != 0) {
      was_resized = 0;
      return true;
    }
    if (run.update()) return true;
  }
}

}  // namespace

int run_watch(const std::vector<std::string>& arguments) {
  std::string folder;
  bool once = false;
  Options options("watch RUN",
                  "Draws the curves of a run in the terminal and follows it while it trains. q or "
                  "Ctrl-C leaves, l switches the loss to a log scale, w shows the last half and "
                  "the last tenth of the steps.");
  options.positional("RUN", folder, "the run folder, the output_dir of its recipe")
      .flag("once", once, "draw once and leave; what happens where stdout is no terminal");
  options.parse(arguments);
  report::RunRecords run(folder);
  report::WatchView view;
  view.colour = use_colour(STDOUT_FILENO);
  if (once || ::isatty(STDOUT_FILENO) == 0 || ::isatty(STDIN_FILENO) == 0) {
    view.keys = false;
    measure(view);
    for (std::string line : report::watch_frame(run, view)) {
      line.erase(line.find_last_not_of(' ') + 1);
      std::puts(line.c_str());
    }
    return 0;
  }
  const Screen screen;
  do {
    measure(view);
    Screen::show(report::watch_frame(run, view), view.height);
  } while (wait_for_change(run, view));
  return 0;
}

}  // namespace espalier::app
