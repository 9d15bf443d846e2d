#pragma once

#include "espalier/sdk/plugin.h"
#include "plugins/interfaces.h"

/// The descriptor of a plugin that breaks one rule; each source changes one field of it.
inline EspalierPluginDescriptor bad_descriptor(
    std::int32_t (*register_components)(void*, char*, std::size_t) noexcept) {
  return {sizeof(EspalierPluginDescriptor),
          ESPALIER_PLUGIN_MAGIC,
          espalier::kPluginAbiMajor,
          espalier::kPluginAbiMinor,
          espalier::kPluginTier,
          ESPALIER_FINGERPRINT,
          "bad.plugin",
          "1.0.0",
          register_components,
          nullptr};
}

inline std::int32_t register_nothing(void*, char*, std::size_t) noexcept { return 0; }

#define ESPALIER_BAD_PLUGIN_ENTRY \
  extern "C" ESPALIER_API const EspalierPluginDescriptor* espalier_plugin()
