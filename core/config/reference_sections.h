#pragma once

#include "espalier/base/value.h"

namespace espalier::config {

/// What the keys of Automodel's own sections mean here: section -> key -> rule, see KeyRules.
const Value& reference_sections();

}  // namespace espalier::config
