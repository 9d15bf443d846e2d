#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plugin/plugin_file.h"

namespace espalier::plugin {

/// Writes plugins.lock: id, version, path, sha256 and fingerprint of each plugin, as JSON. Throws
/// Error(kIo).
void write_lock_file(const std::string& path,
                     const std::vector<std::shared_ptr<const Plugin>>& plugins);

/// Why a plugin is not what a lock file (its content `lock`, read from `path`) recorded under its
/// id; nothing when it is.
std::optional<Problem> lock_problem(const Value& lock, const std::string& path,
                                    const Plugin& plugin);

/// Throws Error(kBadPlugin) with all differences when a plugin is not the file that the lock file
/// recorded under its id, or is not in it.
void check_lock_file(const std::string& path,
                     const std::vector<std::shared_ptr<const Plugin>>& plugins);

}  // namespace espalier::plugin
