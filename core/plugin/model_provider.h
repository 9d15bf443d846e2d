#pragma once

#include <string>

#include "espalier/base/value.h"
#include "plugin/catalog.h"

namespace espalier::plugin {

/// The ModelProvider that serves a model folder, by the `architectures` of its config.json, or by
/// its `model_type` where it names none, or another class of the same family, and the folder brings
/// no code of its own (`auto_map`). Throws Error(kUnsupported) with the nearest names when there is
/// none, Error(kBadInput) when there are several; no plugin code runs.
ComponentRef model_provider_for(const Catalog& catalog, const std::string& folder);

}  // namespace espalier::plugin
