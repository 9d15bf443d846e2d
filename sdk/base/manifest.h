#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/base/value.h"

namespace espalier {

/// The ELF section that holds the manifest, as JSON without a terminating zero.
inline constexpr std::string_view kManifestSection = ".espalier.manifest";

/// What a plugin file says of itself before any of its code runs.
struct ESPALIER_API PluginManifest {
  std::string id;       ///< "vendor.name"
  std::string version;  ///< "major.minor.patch"
  std::string tier;     ///< "exact_cxx", or one that a later host knows
  std::int64_t abi_major = 0;
  std::int64_t abi_minor = 0;
  std::string fingerprint;
  std::string license;
  std::vector<std::string> requirements;  ///< "vendor.name >= 1.2, < 2"
  std::vector<std::string> conflicts;
  std::vector<ComponentDescriptor> components;  ///< without `create`

  /// nullptr when there is no such component.
  const ComponentDescriptor* find(std::string_view interface, std::string_view name) const;
};

/// One component as the manifest stores it; two components with equal values are declared alike.
ESPALIER_API Value component_to_value(const ComponentDescriptor& component);

ESPALIER_API Value manifest_to_value(const PluginManifest& manifest);

/// Id, version, tier, ABI and fingerprint only: what a host reads first, because a newer plugin may
/// describe its components in a way that this host does not understand. Throws Error(kBadPlugin)
/// that names the field; `where` is the file.
ESPALIER_API PluginManifest manifest_header_from_value(const Value& value,
                                                       const std::string& where);

/// The whole manifest. Throws Error(kBadPlugin) that names the field.
ESPALIER_API PluginManifest manifest_from_value(const Value& value, const std::string& where);

}  // namespace espalier
