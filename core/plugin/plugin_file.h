#pragma once

#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/manifest.h"

namespace espalier::plugin {

/// A plugin file and what it says of itself. Shared by everything that refers to its components.
struct Plugin {
  PluginManifest manifest;
  std::string path;    ///< absolute and canonical
  std::string origin;  ///< how it was found: "--plugins", "--plugin-path", ...
};

/// A manifest as read from a file. With problems, the plugin can't be used with this program and
/// only the header (id, version, tier, ABI, fingerprint) is filled: a plugin for another version of
/// Espalier may describe its components in a way that this one does not understand.
struct ManifestReading {
  PluginManifest manifest;
  std::vector<Problem> problems;
};

/// Reads the manifest of `path` as data and runs nothing. Throws Error(kBadPlugin) when the file is
/// no plugin for this machine or its manifest is malformed.
ManifestReading read_plugin_file(const std::string& path);

/// Why this program can't load a plugin with these properties: tier, ABI version, fingerprint; all
/// at once, empty when it can.
std::vector<Problem> compatibility_problems(const PluginManifest& header, const std::string& path);

/// A problem when others may write to `folder` or to `file` in it: they could run code as the user.
/// Nothing is wrong when the list is empty.
std::vector<Problem> permission_problems(const std::string& file);

}  // namespace espalier::plugin
