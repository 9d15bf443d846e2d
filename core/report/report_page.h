#pragma once

#include <string>
#include <vector>

#include "report/run_records.h"

namespace espalier::report {

struct PageOptions {
  /// Points of all curves together at most; longer curves are thinned, and the page says so.
  std::size_t points = 40000;
  /// Numbers of the statistics by block at most; longer runs show some of their steps.
  std::size_t statistics = 30000;
  /// Bytes of generated samples at most.
  std::size_t sample_bytes = 200000;
  /// The page loads itself anew every so many seconds; 0: never.
  int refresh_seconds = 0;
};

/// Some runs side by side as one HTML page that needs nothing else: curves, statistics by
/// block, differences of the recipes, plugins, samples.
std::string report_page(const std::vector<RunRecords>& runs, const PageOptions& options = {});

}  // namespace espalier::report
