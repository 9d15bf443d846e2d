#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/descriptor.h"
#include "espalier/sdk/fingerprint.h"

namespace espalier {

inline constexpr std::uint16_t kPluginAbiMajor = 1;
inline constexpr std::uint16_t kPluginAbiMinor = 0;
inline constexpr const char* kPluginEntryName = "espalier_plugin";
inline constexpr const char* kPluginTier = "exact_cxx";
inline constexpr const char* kStablePluginTier = "stable_c";

/// Runs `function(registrar)` and turns every exception into a code and a message.
ESPALIER_API std::int32_t guarded_registration(void (*function)(Registrar&), void* registrar,
                                               char* message, std::size_t message_size) noexcept;

/// Runs `function()` and turns every exception into a code.
ESPALIER_API std::int32_t guarded_shutdown(void (*function)()) noexcept;

/// The descriptor's `shutdown` for a plugin's own function, or null where it has none.
template <auto Function = nullptr>
constexpr std::int32_t (*shutdown_entry() noexcept)() noexcept {
  if constexpr (std::is_null_pointer_v<decltype(Function)>)
    return nullptr;
  else
    return []() noexcept { return guarded_shutdown(Function); };
}

}  // namespace espalier

/// Once per plugin, at namespace scope of one source file. REGISTER is `void
/// (espalier::Registrar&)`; an optional last argument is `void ()`, called once before the program
/// ends.
///
///     ESPALIER_PLUGIN("acme.losses", "1.0.0", register_components)
#define ESPALIER_PLUGIN(ID, VERSION, REGISTER, ...)                                  \
  extern "C" ESPALIER_API const EspalierPluginDescriptor* espalier_plugin() {        \
    static const EspalierPluginDescriptor kDescriptor = {                            \
        sizeof(EspalierPluginDescriptor),                                            \
        ESPALIER_PLUGIN_MAGIC,                                                       \
        espalier::kPluginAbiMajor,                                                   \
        espalier::kPluginAbiMinor,                                                   \
        espalier::kPluginTier,                                                       \
        ESPALIER_FINGERPRINT,                                                        \
        ID,                                                                          \
        VERSION,                                                                     \
        [](void* registrar, char* message, std::size_t size) noexcept {              \
          return espalier::guarded_registration(REGISTER, registrar, message, size); \
        },                                                                           \
        espalier::shutdown_entry<__VA_ARGS__>()};                                    \
    return &kDescriptor;                                                             \
  }
