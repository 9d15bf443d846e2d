#pragma once

#include <string>

#include "espalier/sdk/plugin.h"

namespace espalier::plugin {

/// Opens the library at once, privately and for good (RTLD_NOW, RTLD_LOCAL, RTLD_NODELETE), and
/// returns its entry function. There is no way to close it: objects, exceptions and thread exits
/// may refer to its code until the process ends. `path` is absolute. Throws Error(kBadPlugin) with
/// the loader's reason: an undefined symbol, a library that is not there, no entry symbol.
EspalierPluginEntry open_plugin(const std::string& path);

/// Opens a library that is part of Espalier itself in the same way and returns the address of
/// `symbol`.
void* open_library_symbol(const std::string& path, const char* symbol);

}  // namespace espalier::plugin
