#pragma once

#include <memory>

#include "espalier/sdk/communicator.h"

namespace espalier::nccl {

/// Connects the ranks of a group over NCCL, on the GPU that is current. Throws Error(kPeerFailed).
std::shared_ptr<Communicator> connect(const GroupSetup& setup);

}  // namespace espalier::nccl
