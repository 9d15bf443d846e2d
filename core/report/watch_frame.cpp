#include "report/watch_frame.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>

#include "report/terminal_plot.h"

namespace espalier::report {
namespace {

constexpr int kTrainingColour = 4;    // blue
constexpr int kValidationColour = 3;  // yellow
constexpr int kPanelColour = 6;       // cyan
constexpr std::size_t kPanelWidth = 25;
constexpr std::size_t kPanelHeight = 5;  // with its title
constexpr std::size_t kLeastLoss = 6;    // lines of the loss, before there are panels
constexpr double kRecentSteps = 50;      // that the remaining time is reckoned from

std::string painted(const std::string& text, const char* paint, bool colour) {
  return colour ? std::string(paint) + text + "\033[0m" : text;
}

PlotCurve curve_of(const MetricLog& log, const std::vector<double>& values, std::int64_t from,
                   int colour) {
  PlotCurve curve;
  curve.colour = colour;
  const auto& steps = log.steps();
  const auto first = std::lower_bound(steps.begin(), steps.end(), from) - steps.begin();
  for (auto i = static_cast<std::size_t>(first); i < steps.size(); ++i) {
    curve.x.push_back(static_cast<double>(steps[i]));
    curve.y.push_back(values[i]);
  }
  return curve;
}

/// Seconds of a step, of late.
std::optional<double> recent_step_seconds(const MetricLog& log) {
  const std::vector<double>* seconds = log.column("step_seconds");
  if (seconds == nullptr || seconds->empty()) return std::nullopt;
  double sum = 0;
  double count = 0;
  for (auto it = seconds->rbegin(); it != seconds->rend() && count < kRecentSteps; ++it) {
    if (!std::isfinite(*it)) continue;
    sum += *it;
    ++count;
  }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

std::string status_line(const RunRecords& run, const WatchView& view) {
  const auto& steps = run.training().steps();
  const std::int64_t step = steps.empty() ? 0 : steps.back();
  const auto total = run.total_steps();
  const RunStatus status = run.status();
  std::string text = "step " + std::to_string(step);
  if (total) {
    text += " of " + std::to_string(*total);
    if (*total > 0) text += ", " + std::to_string(100 * step / *total) + " %";
  }
  const auto seconds = recent_step_seconds(run.training());
  if (status == RunStatus::kTraining && total && seconds && step < *total)
    text += ", " + duration_text(*seconds * static_cast<double>(*total - step)) + " left";
  if (status == RunStatus::kFinished) text += ", finished";
  if (status == RunStatus::kStopped) text += ", stopped";
  const std::string name =
      std::filesystem::absolute(run.folder() + "/.").lexically_normal().parent_path().filename();
  const std::size_t room = view.width > text.size() + 2 ? view.width - text.size() - 2 : 0;
  return painted(fitted(name, room), "\033[1m", view.colour) + "  " + text;
}

std::string progress_bar(const RunRecords& run, const WatchView& view) {
  const auto& steps = run.training().steps();
  const auto total = run.total_steps();
  if (!total || *total <= 0) return {};
  const double share =
      steps.empty()
          ? 0.0
          : std::min(1.0, static_cast<double>(steps.back()) / static_cast<double>(*total));
  const auto done = static_cast<std::size_t>(share * static_cast<double>(view.width));
  std::string full;
  std::string rest;
  for (std::size_t i = 0; i < view.width; ++i) (i < done ? full : rest) += i < done ? "━" : "─";
  return painted(full, "\033[32m", view.colour) + painted(rest, "\033[2m", view.colour);
}

/// The newest of the values that are numbers.
double newest(const std::vector<double>& values) {
  for (auto it = values.rbegin(); it != values.rend(); ++it) {
    if (std::isfinite(*it)) return *it;
  }
  return std::nan("");
}

class FrameBuilder {
 public:
  FrameBuilder(const RunRecords& run, const WatchView& view) : run_(run), view_(view) {
    const auto& steps = run.training().steps();
    if (!steps.empty()) {
      const double span = static_cast<double>(steps.back() - steps.front());
      from_ = steps.back() - static_cast<std::int64_t>(span * view.window);
    }
  }

  std::vector<std::string> build() {
    add(status_line(run_, view_));
    if (view_.height > 8) add(progress_bar(run_, view_));
    const std::size_t footer = view_.keys && view_.height > 10 ? 1 : 0;
    std::size_t room =
        view_.height > lines_.size() + footer ? view_.height - lines_.size() - footer : 0;
    const std::vector<Panel> panels = find_panels();
    const std::size_t columns = std::max<std::size_t>(1, (view_.width + 1) / (kPanelWidth + 1));
    std::size_t rows = (panels.size() + columns - 1) / columns;
    while (rows > 0 && room < rows * kPanelHeight + kLeastLoss + 2) --rows;
    add_loss(room - rows * kPanelHeight);
    for (std::size_t row = 0; row < rows; ++row) add_panels(panels, row * columns, columns);
    if (footer > 0) add(painted("q leave   l log scale   w latest steps", "\033[2m", view_.colour));
    lines_.resize(std::min(lines_.size(), view_.height));
    return std::move(lines_);
  }

 private:
  struct Panel {
    std::string title;
    bool bytes = false;
    PlotCurve curve;
    double last = 0;
  };

  void add(const std::string& line) { lines_.push_back(fitted(line, view_.width)); }

  void add_loss(std::size_t room) {
    if (room < 2) return;
    const MetricLog& log = run_.training();
    std::vector<PlotCurve> curves;
    std::string title = "loss";
    if (const std::vector<double>* loss = log.column("loss")) {
      title += " " + short_number(newest(*loss));
      curves.push_back(curve_of(log, *loss, from_, kTrainingColour));
    } else {
      title += ": no step yet";
    }
    title = painted(title, "\033[34m", view_.colour);
    for (const auto& [source, validation] : run_.validation()) {
      const std::vector<double>* loss = validation.column("loss");
      if (loss == nullptr || loss->empty()) continue;
      std::string name = source;
      std::replace(name.begin(), name.end(), '_', ' ');
      title += painted("   " + name + " " + short_number(newest(*loss)), "\033[33m", view_.colour);
      curves.push_back(curve_of(validation, *loss, from_, kValidationColour));
    }
    if (view_.log) title += "   log scale";
    add(title);
    PlotOptions options;
    options.width = view_.width;
    options.height = room - 2;
    options.colour = view_.colour;
    options.log = view_.log;
    for (const std::string& line : plot(curves, options)) add(line);
    add(x_axis());
  }

  /// The first and the last step, below the ends of the curves.
  std::string x_axis() const {
    const auto& steps = run_.training().steps();
    std::string line = "        └";
    if (steps.empty()) return line;
    const std::string first = " " + std::to_string(std::max(from_, steps.front()));
    const std::string last = std::to_string(steps.back());
    line += first;
    const std::size_t used = 9 + first.size() + last.size();
    return line + std::string(view_.width > used ? view_.width - used : 1, ' ') + last;
  }

  std::vector<Panel> find_panels() const {
    struct Known {
      const char* column;
      const char* title;
      bool bytes;
    };
    constexpr std::array kKnown = {Known{"lr", "lr", false},
                                   Known{"grad_norm", "grad norm", false},
                                   Known{"tokens_per_second", "tokens/s", false},
                                   Known{"peak_device_bytes", "GPU memory", true},
                                   Known{"rss_bytes", "memory", true},
                                   Known{"step_seconds", "s/step", false}};
    std::vector<Panel> panels;
    const MetricLog& log = run_.training();
    for (const Known& known : kKnown) {
      if (const std::vector<double>* values = log.column(known.column))
        panels.push_back({known.title, known.bytes, curve_of(log, *values, from_, kPanelColour),
                          newest(*values)});
    }
    for (const auto& [column, values] : log.columns()) {
      if (column.starts_with("terms."))
        panels.push_back(
            {column.substr(6), false, curve_of(log, values, from_, kPanelColour), newest(values)});
    }
    return panels;
  }

  void add_panels(const std::vector<Panel>& panels, std::size_t first, std::size_t columns) {
    const std::size_t width = (view_.width - (columns - 1)) / columns;
    std::vector<std::string> rows(kPanelHeight);
    for (std::size_t i = first; i < std::min(panels.size(), first + columns); ++i) {
      const Panel& panel = panels[i];
      if (i > first) {
        for (std::string& row : rows) row += ' ';
      }
      const auto text = [&](double value) {
        return panel.bytes ? bytes_text(value) : short_number(value);
      };
      double low = INFINITY;
      double high = -INFINITY;
      for (const double value : panel.curve.y) {
        if (!std::isfinite(value)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
      const std::string range = low < high ? "  " + text(low) + "–" + text(high) : std::string();
      std::string title = panel.title + " " + text(panel.last);
      if (shown_width(title + range) <= width) title += painted(range, "\033[2m", view_.colour);
      rows[0] += fitted(title, width);
      PlotOptions options;
      options.width = width;
      options.height = kPanelHeight - 1;
      options.labels = false;
      options.mean = true;
      options.colour = view_.colour;
      const std::vector<std::string> lines = plot({panel.curve}, options);
      for (std::size_t line = 0; line < lines.size(); ++line)
        rows[line + 1] += fitted(lines[line], width);
    }
    for (const std::string& row : rows) add(row);
  }

  const RunRecords& run_;
  const WatchView& view_;
  std::int64_t from_ = 0;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> watch_frame(const RunRecords& run, const WatchView& view) {
  return FrameBuilder(run, view).build();
}

}  // namespace espalier::report
