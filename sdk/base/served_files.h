#pragma once

#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"

namespace espalier {

/// Paths of the files right in `folder` that a manifest entry's `serves` table claims: their name
/// fits a pattern of "files" ('*' and '?') and, where it has "magic", they begin with one of these
/// byte strings in hex. Sorted by name; empty where `serves` has no "files" or the folder can't be
/// read.
ESPALIER_API std::vector<std::string> served_files(const Table& serves, const std::string& folder);

}  // namespace espalier
