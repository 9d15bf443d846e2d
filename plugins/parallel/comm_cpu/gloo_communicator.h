#pragma once

#include <memory>
#include <string>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// Collectives over TCP, by the Gloo inside LibTorch: for ranks on any hosts, tensors on the CPU.
/// One thread a group runs them in the order of the calls. `interface` is a network interface;
/// empty: the one of the setup's address.
std::shared_ptr<Communicator> connect_gloo(const GroupSetup& setup, const std::string& interface);

}  // namespace espalier
