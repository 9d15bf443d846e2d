#pragma once

#include "espalier/base/error.h"
#include "espalier/base/value.h"

namespace espalier::config {

/// Replaces `${NAME}` and `${NAME:default}` in every string of the tree by environment variables.
/// `$${` stands for a literal `${`. A string that is one reference and nothing else takes the type
/// of what it is replaced by, where that reads as a number or boolean. Adds a problem with the
/// position for each variable that is not set and has no default, and for malformed references.
void substitute_environment(Value& tree, ProblemList& problems);

}  // namespace espalier::config
