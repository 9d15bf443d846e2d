#pragma once

#include <functional>
#include <memory>

#include "espalier/sdk/communicator.h"

namespace espalier::conformance {

/// Runs `work` in `size` threads of this process, each with a World in which it is another rank,
/// and returns when all have ended. Collectives are done when they return; a rank that throws
/// releases the others, and the first exception is thrown here.
void run_ranks(int size, const std::function<void(World& world)>& work);

}  // namespace espalier::conformance
