#pragma once

#include <string>
#include <string_view>

#include "espalier/base/value.h"

namespace espalier::config {

/// Parses a YAML document as PyYAML's safe loader does: the types of plain scalars are those of
/// YAML 1.1, anchors and merge keys are resolved. Each member of a table carries the position of
/// its key, an item of a list its own. Throws Error(kBadInput) with the position of a syntax error,
/// of a key that stands twice, of tags for other types, and for aliases that multiply the document.
Value parse_yaml(std::string_view text, const std::string& file);

/// What a text stands for where plain data is meant: None, true, numbers and flat lists as Python
/// writes them; other texts as they are.
Value python_literal(const std::string& text);

}  // namespace espalier::config
