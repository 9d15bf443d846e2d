#pragma once

#include <cstddef>
#include <vector>

namespace espalier::report {

/// Places of at most `limit` (4 or more) values of a curve that show what all of them show: the
/// first, the last, and the lowest and the highest of each of equal stretches between. Values that
/// are no finite numbers are left out. All places when they are few enough.
std::vector<std::size_t> thin(const std::vector<double>& values, std::size_t limit);

}  // namespace espalier::report
