#pragma once

#include <memory>
#include <vector>

#include "espalier/base/value.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// Most bytes that each purpose held at once, and all together, since the peaks were reset: a table
/// of numbers. Null where tensors are not served by CachingAllocator.
Value memory_by_purpose();

/// Counts the gradients of `parameters` as such.
void count_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters);

}  // namespace espalier
