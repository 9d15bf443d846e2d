#include <cstdlib>

#include "bad_plugin.h"

__attribute__((constructor)) static void at_load() { std::abort(); }

ESPALIER_BAD_PLUGIN_ENTRY {
  static const EspalierPluginDescriptor kDescriptor = bad_descriptor(register_nothing);
  return &kDescriptor;
}
