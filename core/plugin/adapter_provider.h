#pragma once

#include <string>

#include "plugin/catalog.h"

namespace espalier::plugin {

/// The Adapter that reads an adapter's folder, by the `peft_type` of its adapter_config.json.
/// Throws Error when the folder is no adapter's or nothing reads its kind; no plugin code runs.
ComponentRef adapter_for(const Catalog& catalog, const std::string& folder);

}  // namespace espalier::plugin
