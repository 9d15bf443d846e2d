#pragma once

#include <string>

namespace espalier {

/// Whether ranks on this host can talk over TCP: two threads connect through LibTorch's Gloo on the
/// loopback address and add up a number. "2 ranks on 127.0.0.1 agreed through Gloo in 3 ms", or
/// what went wrong within 5 s.
std::string loopback_check();

}  // namespace espalier
