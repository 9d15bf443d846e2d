#pragma once

#include <string>

#include "espalier/base/value.h"

namespace espalier {

/// The lines of a JSON Lines file, each with its position; empty lines are left out. Throws
/// Error(kBadInput) for a file without any.
Array read_prompt_lines(const std::string& path);

}  // namespace espalier
