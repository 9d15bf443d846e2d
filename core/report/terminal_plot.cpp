#include "report/terminal_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "report/run_records.h"

namespace espalier::report {
namespace {

constexpr std::size_t kLabelWidth = 9;
constexpr int kDotsAcross = 2;
constexpr int kDotsDown = 4;

/// A grid of dots, two by four to a character.
class DotCanvas {
 public:
  DotCanvas(std::size_t width, std::size_t height)
      : width_(width), height_(height), dots_(width * height), colours_(width * height) {}

  int dots_across() const { return static_cast<int>(width_) * kDotsAcross; }
  int dots_down() const { return static_cast<int>(height_) * kDotsDown; }

  void set(int x, int y, int colour) {
    if (x < 0 || y < 0 || x >= dots_across() || y >= dots_down()) return;
    // Order of the bits in a braille character: the left column of three, the right one, the last
    // row.
    constexpr std::uint8_t kBits[kDotsDown][kDotsAcross] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    const std::size_t cell = static_cast<std::size_t>(y / kDotsDown) * width_ +
                             static_cast<std::size_t>(x / kDotsAcross);
    dots_[cell] |= kBits[y % kDotsDown][x % kDotsAcross];
    colours_[cell] = colour;
  }

  void line(int x0, int y0, int x1, int y1, int colour) {
    const int steps = std::max({1, std::abs(x1 - x0), std::abs(y1 - y0)});
    for (int i = 0; i <= steps; ++i)
      set(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps, colour);
  }

  std::string row(std::size_t number, bool colour) const {
    std::string text;
    int current = 0;
    for (std::size_t i = number * width_; i < (number + 1) * width_; ++i) {
      const int wanted = dots_[i] == 0 || !colour ? 0 : colours_[i];
      if (wanted != current)
        text += wanted == 0 ? "\033[0m" : "\033[3" + std::to_string(wanted) + "m";
      current = wanted;
      if (dots_[i] == 0) {
        text += ' ';
      } else {  // U+2800 and on, in UTF-8
        text += '\xE2';
        text += static_cast<char>(0xA0 | (dots_[i] >> 6U));
        text += static_cast<char>(0x80 | (dots_[i] & 0x3FU));
      }
    }
    return current == 0 ? text : text + "\033[0m";
  }

 private:
  std::size_t width_;
  std::size_t height_;
  std::vector<std::uint8_t> dots_;
  std::vector<int> colours_;
};

struct Range {
  double low = INFINITY;
  double high = -INFINITY;
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return !(low <= high); }
};

class Frame {
 public:
  Frame(const std::vector<PlotCurve>& curves, bool log) : log_(log) {
    for (const PlotCurve& curve : curves) {
      for (std::size_t i = 0; i < curve.x.size(); ++i) {
        if (!usable(curve.y[i])) continue;
        x_.add(curve.x[i]);
        y_.add(scaled(curve.y[i]));
      }
    }
    if (!empty() &&
        y_.high - y_.low <= 1e-12 * std::abs(y_.high)) {  // a level curve: in the middle
      const double room = y_.high == 0 ? 1 : std::abs(y_.high) * 0.05;
      y_.low -= room;
      y_.high += room;
    }
  }

  bool empty() const { return y_.empty(); }
  bool usable(double value) const { return std::isfinite(value) && (!log_ || value > 0); }
  double low() const { return log_ ? std::exp(y_.low) : y_.low; }
  double high() const { return log_ ? std::exp(y_.high) : y_.high; }

  void draw(const PlotCurve& curve, DotCanvas& canvas) const {
    int last_x = 0;
    int last_y = 0;
    bool begun = false;
    for (std::size_t i = 0; i < curve.x.size(); ++i) {
      if (!usable(curve.y[i])) continue;
      const int x = place(curve.x[i], x_, canvas.dots_across());
      const int y = canvas.dots_down() - 1 - place(scaled(curve.y[i]), y_, canvas.dots_down());
      canvas.line(begun ? last_x : x, begun ? last_y : y, x, y, curve.colour);
      last_x = x;
      last_y = y;
      begun = true;
    }
  }

 private:
  double scaled(double value) const { return log_ ? std::log(value) : value; }
  static int place(double value, const Range& range, int dots) {
    if (range.high <= range.low) return dots / 2;
    return static_cast<int>(
        std::lround((value - range.low) / (range.high - range.low) * (dots - 1)));
  }

  bool log_;
  Range x_;
  Range y_;
};

/// The mean of the values that share a column of dots.
PlotCurve averaged(const PlotCurve& curve, std::size_t columns) {
  PlotCurve means;
  means.colour = curve.colour;
  if (curve.x.empty()) return means;
  const double span = curve.x.back() - curve.x.front();
  std::size_t last_column = columns;
  double count = 0;
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    if (!std::isfinite(curve.y[i])) continue;
    const double share = span > 0 ? (curve.x[i] - curve.x.front()) / span : 0;
    const auto column =
        std::min(columns - 1, static_cast<std::size_t>(share * static_cast<double>(columns)));
    if (column != last_column) {
      means.x.push_back(curve.x[i]);
      means.y.push_back(0);
      count = 0;
      last_column = column;
    }
    ++count;
    means.y.back() += (curve.y[i] - means.y.back()) / count;
  }
  return means;
}

}  // namespace

std::size_t shown_width(const std::string& text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033') {
      while (i < text.size() && text[i] != 'm') ++i;
    } else if ((static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U) {
      ++width;
    }
  }
  return width;
}

std::string fitted(const std::string& text, std::size_t width) {
  const std::size_t shown = shown_width(text);
  if (shown <= width) return text + std::string(width - shown, ' ');
  std::string cut;
  std::size_t taken = 0;
  bool coloured = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033') {
      const std::size_t end = std::min(text.find('m', i), text.size() - 1);
      cut += text.substr(i, end - i + 1);
      coloured = true;
      i = end;
      continue;
    }
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    if (begins && taken == width) break;
    if (begins) ++taken;
    cut += text[i];
  }
  return coloured ? cut + "\033[0m" : cut;
}

std::vector<std::string> plot(const std::vector<PlotCurve>& given, const PlotOptions& options) {
  const std::size_t margin = options.labels ? kLabelWidth : 0;
  if (options.height == 0 || options.width <= margin + 2) return {};
  std::vector<PlotCurve> curves = given;
  if (options.mean) {
    const std::size_t columns = (options.width - margin) * kDotsAcross;
    for (PlotCurve& curve : curves) curve = averaged(curve, columns);
  }
  const Frame frame(curves, options.log);
  DotCanvas canvas(options.width - margin, options.height);
  if (!frame.empty()) {
    for (const PlotCurve& curve : curves) frame.draw(curve, canvas);
  }
  std::vector<std::string> lines;
  for (std::size_t row = 0; row < options.height; ++row) {
    std::string line;
    if (options.labels) {
      std::string label;
      if (!frame.empty() && row == 0) label = short_number(frame.high());
      if (!frame.empty() && row + 1 == options.height && row > 0) label = short_number(frame.low());
      line =
          std::string(kLabelWidth - 1 - std::min(kLabelWidth - 1, label.size()), ' ') + label + "│";
    }
    lines.push_back(line + canvas.row(row, options.colour));
  }
  return lines;
}

}  // namespace espalier::report
