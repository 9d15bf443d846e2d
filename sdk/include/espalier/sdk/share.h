#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// A run of indices of a dimension.
struct IndexRun {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

/// What this rank has of a dimension that several ranks share.
struct AxisShare {
  std::shared_ptr<Communicator> ranks;  ///< those that share it
  std::int64_t size = 0;                ///< indices of the whole dimension
  std::vector<IndexRun> runs;           ///< of this rank, in the order in which it holds them

  /// Indices that this rank has.
  std::int64_t count() const {
    std::int64_t sum = 0;
    for (const IndexRun& run : runs) sum += run.count;
    return sum;
  }
};

}  // namespace espalier
