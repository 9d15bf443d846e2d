#pragma once

#include <map>
#include <string>

#include "espalier/base/value.h"

namespace espalier::config {

/// A tree of tables taken apart: "section.key" -> value. Arrays stay whole.
std::map<std::string, Value> flat_tree(const Value& tree);

}  // namespace espalier::config
