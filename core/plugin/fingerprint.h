#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"

namespace espalier::plugin {

/// The fingerprint that this program was built with, LibTorch and CUDA parts included.
std::string host_fingerprint();

/// One problem for each key in which a plugin's fingerprint differs from the host's; each says what
/// was found and expected and names the command that mends it. The keys `torch` and `cuda` matter
/// only to plugins that have them. `plugin` and `path` are for messages.
std::vector<Problem> compare_fingerprints(std::string_view plugin_fingerprint,
                                          std::string_view host_fingerprint,
                                          const std::string& plugin, const std::string& path);

}  // namespace espalier::plugin
