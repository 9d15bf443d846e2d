#pragma once

#include <string>

namespace espalier::app {

/// Starts the program again with the LibTorch of ESPALIER_LIBTORCH in the loader's search path,
/// where that is set and not yet done. (Opening that LibTorch before the engine would be simpler,
/// but MKL inside it would then not see the engine's answer about the CPU.) Returns when there is
/// nothing to do. Throws Error(kUnsupported) when the folder holds no LibTorch, or one of another
/// version than this build's.
void use_chosen_libtorch(char** arguments);

/// The folder in which the engine finds LibTorch, or a sentence that says why there is none.
std::string libtorch_place();

}  // namespace espalier::app
