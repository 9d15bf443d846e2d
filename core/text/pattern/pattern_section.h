#pragma once

#include <memory>

#include "text/json_node.h"
#include "text/pattern/pattern.h"

namespace espalier::text {

/// `pattern` of Split and Replace: {"String": ...} or {"Regex": ...}.
std::unique_ptr<Pattern> read_pattern(const JsonNode& section);

}  // namespace espalier::text
