#include <cstring>

#include "bad_plugin.h"

ESPALIER_BAD_PLUGIN_ENTRY {
  alignas(EspalierPluginDescriptor) static char storage[sizeof(EspalierPluginDescriptor) + 8];
  const EspalierPluginDescriptor descriptor = bad_descriptor(register_nothing);
  std::memcpy(storage + 3, &descriptor, sizeof descriptor);
  return reinterpret_cast<const EspalierPluginDescriptor*>(storage + 3);
}
