#include <cstdlib>

#include "bad_plugin.h"

__attribute__((constructor)) static void at_load() { std::abort(); }

BAD_PLUGIN_ENTRY {
  static const EspalierPluginDescriptor descriptor = bad_descriptor(register_nothing);
  return &descriptor;
}
