#pragma once

#include <cstdint>
#include <functional>

#include "espalier/base/api.h"

namespace espalier::ops {

/// Calls work(from, to) for parts of [begin, end) on LibTorch's own threads and returns when all
/// are done. Parts have at least `grain` numbers each; fewer than two parts, or a call from inside
/// another, run on the calling thread alone. What a part throws is thrown here, the first of it.
///
/// Take this and not at::parallel_for: that one is a loop on a single thread in every file that is
/// not compiled for OpenMP, and a file that is with another compiler's brings a second set of
/// threads into the process.
ESPALIER_API void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                               const std::function<void(std::int64_t, std::int64_t)>& work);

}  // namespace espalier::ops
