#ifndef ESPALIER_SDK_DESCRIPTOR_H
#define ESPALIER_SDK_DESCRIPTOR_H

/* What every plugin exports, whatever its tier. C11 and C++20. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define ESPALIER_C_NOEXCEPT noexcept
extern "C" {
#else
#define ESPALIER_C_NOEXCEPT
#endif

/** First field of every plugin's descriptor after its size: "ESPA" in memory. */
#define ESPALIER_PLUGIN_MAGIC 0x41505345U

/**
 * What a plugin tells the host before any of its code runs beyond one accessor. Size first, so that
 * a later host can tell which fields an older plugin has. Static; never freed.
 */
struct EspalierPluginDescriptor {
  uint32_t struct_size;
  uint32_t magic;
  uint16_t abi_major; /**< of the plugin interface, or of stable_c.h, as the tier says */
  uint16_t abi_minor;
  const char* tier;        /**< "exact_cxx" or "stable_c" */
  const char* fingerprint; /**< "key=value;key=value;...", see fingerprint.h; "" for stable_c */
  const char* id;          /**< "vendor.name" */
  const char* version;     /**< "major.minor.patch" */
  /**
   * Fills an espalier::Registrar (exact_cxx) or an EspalierCRegistrar (stable_c). Returns 0, or an
   * ErrorCode when it failed; nothing is committed then. On failure the message is in `message` (of
   * `message_size` bytes, always terminated).
   */
  int32_t (*register_components)(void* registrar, char* message,
                                 size_t message_size) ESPALIER_C_NOEXCEPT;
  /** Called once, in reverse order of loading. May be null. */
  int32_t (*shutdown)(void) ESPALIER_C_NOEXCEPT;
};

#ifdef __cplusplus
using EspalierPluginEntry = const EspalierPluginDescriptor* (*)();
}
#endif

#endif
