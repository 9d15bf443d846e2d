#pragma once

#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "report/report_page.h"

namespace espalier::report {

/// One chart of the page.
struct Chart {
  std::string title;
  std::string log;     ///< "training", "validation", ...
  std::string column;  ///< of the log
  std::string unit;    ///< "": a number; "bytes" and "rate" are drawn from zero on
  bool smooth = true;  ///< noisy, so that the page's smoothing helps
};

/// The charts for which some run has numbers, in the order of the page.
std::vector<Chart> charts_of(const std::vector<RunRecords>& runs);

/// What a run is called on the page: its folder's name, or its path where names are equal.
std::vector<std::string> names_of(const std::vector<RunRecords>& runs);

/// What the page's script draws: {"runs": [names], "charts": [{title, unit, smooth, curves: [{run,
/// x, y, of}]}], "clock": [{step, tokens, seconds}], "statistics": as block_statistics}. `shown`
/// and `all` count the points of training curves.
struct PageData {
  std::string json;
  std::size_t shown = 0;
  std::size_t all = 0;
  bool has_statistics = false;
};
PageData page_data(const std::vector<RunRecords>& runs, const std::vector<Chart>& charts,
                   const PageOptions& options);

}  // namespace espalier::report
