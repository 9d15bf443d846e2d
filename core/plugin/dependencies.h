#pragma once

#include <memory>
#include <vector>

#include "plugin/catalog.h"

namespace espalier::plugin {

/// `wanted` and everything they require, each after what it requires, otherwise in the given order.
/// Throws Error with all problems: a requirement that no plugin meets, a version out of range, a
/// cycle, two plugins that can't be used together.
std::vector<std::shared_ptr<const Plugin>> load_order(
    const Catalog& catalog, const std::vector<std::shared_ptr<const Plugin>>& wanted);

}  // namespace espalier::plugin
