#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "report/run_records.h"

namespace espalier::report {

struct WatchView {
  std::size_t width = 80;
  std::size_t height = 24;
  bool colour = false;
  bool log = false;     ///< scale of the loss
  double window = 1.0;  ///< the last share of the steps that is shown
  bool keys = true;     ///< tell which keys there are
};

/// The run as it stands, for a terminal: `height` lines at most, of `width` characters at most. In
/// a small terminal the loss alone.
std::vector<std::string> watch_frame(const RunRecords& run, const WatchView& view);

}  // namespace espalier::report
