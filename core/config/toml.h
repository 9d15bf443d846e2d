#pragma once

#include <string>
#include <string_view>

#include "espalier/base/value.h"

namespace espalier::config {

/// Parses a TOML document. Keys keep their order. Each member of a table carries the position where
/// its *key* starts, an item of a list the position where it starts itself; columns count
/// characters from 1. Dates and times become strings. Throws Error(kBadInput) with the position of
/// the first syntax error. `file` is for messages and positions.
Value parse_toml(std::string_view text, const std::string& file);

/// `value` (a table) as a TOML document that parse_toml and substitute_environment turn back into
/// an equal tree. Nulls are left out: TOML has none.
std::string dump_toml(const Value& value);

}  // namespace espalier::config
