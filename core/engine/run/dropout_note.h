#pragma once

#include <string>

#include "espalier/base/value.h"

namespace espalier {

/// What to tell of the dropout that config.json asks for in training and that is not applied; ""
/// when it asks for none. Any key of a number above 0 whose name speaks of dropout counts, but for
/// those of heads that are not trained here.
std::string dropout_note(const Value& config);

}  // namespace espalier
