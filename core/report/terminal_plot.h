#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace espalier::report {

/// A curve; x rises.
struct PlotCurve {
  std::vector<double> x;
  std::vector<double> y;
  int colour = 0;  ///< of the terminal, 1 to 7; 0: its own
};

struct PlotOptions {
  std::size_t width = 40;  ///< characters, with the labels of the y axis
  std::size_t height = 8;  ///< lines
  bool labels = true;      ///< of the y axis
  bool colour = false;
  bool log = false;   ///< values that are not positive are left out
  bool mean = false;  ///< values of one column of dots are averaged
};

/// Curves in a common frame, drawn with braille characters, eight dots each. `height` lines of at
/// most `width` characters; the first and the last tell the range. Values that are no finite
/// numbers are left out.
std::vector<std::string> plot(const std::vector<PlotCurve>& curves, const PlotOptions& options);

/// Characters of a terminal that `text` takes: code points, without escape sequences.
std::size_t shown_width(const std::string& text);
/// `text` cut to `width` characters or filled up with blanks.
std::string fitted(const std::string& text, std::size_t width);

}  // namespace espalier::report
