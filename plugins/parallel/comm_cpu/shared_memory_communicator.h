#pragma once

#include <memory>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// Collectives of ranks on one host, at the speed of its memory: tensors pass through a shared
/// segment in pieces of a megabyte. Sums are formed in the order of the ranks, each part by one of
/// them, so that all ranks get the same bits. One thread a group runs the calls in their order.
///
/// Memory: 2 MB for each rank and 2 MB more, a group. Traffic for n bytes a rank with r ranks:
/// all-reduce writes 1 + 1 / r and reads 2 times n, all-gather writes n and reads r n,
/// reduce-scatter writes and reads n.
std::shared_ptr<Communicator> connect_shared_memory(const GroupSetup& setup);

}  // namespace espalier
