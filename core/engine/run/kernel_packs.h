#pragma once

#include <string>
#include <vector>

#include "engine/commands/engine_command.h"

namespace espalier {

/// Puts the implementations of the request's kernel packs into the table of ops. Throws
/// Error(kUnsupported) where the one that the recipe names can't run here; others are passed over.
void use_kernel_packs(const EngineCall& call);

/// "avx512" and the like: the implementations in the table besides the reference, each once.
std::vector<std::string> kernel_names();

}  // namespace espalier
