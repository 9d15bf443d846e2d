#pragma once

#include <string>
#include <vector>

#include "plugin/catalog.h"

namespace espalier::plugin {

/// What a model provider says that its models can do (espalier/sdk/capabilities.h); "causal_lm"
/// alone where it says nothing.
std::vector<std::string> capabilities_of(const ComponentRef& provider);

/// Throws Error(kUnsupported) unless the provider claims `name`; `where` is what asked for it.
void require_capability(const ComponentRef& provider, const std::string& name,
                        const std::string& where);

}  // namespace espalier::plugin
