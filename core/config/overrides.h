#pragma once

#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/value.h"

namespace espalier::config {

/// Applies `--section.key=value` words to the tree, in order. The path is a dotted TOML key (quote
/// parts with dots: --optimizer.groups."*.bias"=0); tables on the way are made where they are
/// missing. The value is read as TOML; what is no TOML is taken as text. The new values' positions
/// name the option. Adds a problem for words that are malformed or lead through something that is
/// no table.
void apply_overrides(Value& tree, const std::vector<std::string>& overrides, ProblemList& problems);

}  // namespace espalier::config
