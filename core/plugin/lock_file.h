#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plugin/plugin_file.h"

namespace espalier::plugin {

/// Writes plugins.lock: id, version, path, sha256 and fingerprint of each plugin, as JSON. Throws
/// Error(kIo).
void write_lock_file(const std::string& path,
                     const std::vector<std::shared_ptr<const Plugin>>& plugins);

/// Throws Error(kBadPlugin) with all differences when a plugin is not the file that the lock file
/// recorded under its id, or is not in it.
void check_lock_file(const std::string& path,
                     const std::vector<std::shared_ptr<const Plugin>>& plugins);

}  // namespace espalier::plugin
