#pragma once

#include "app/options.h"
#include "plugin/catalog.h"

namespace espalier::app {

/// Declares --plugins and --plugin-path, which every command has that deals with plugins. `target`
/// is filled when the options are parsed.
void add_plugin_options(Options& options, plugin::CatalogOptions& target);

}  // namespace espalier::app
