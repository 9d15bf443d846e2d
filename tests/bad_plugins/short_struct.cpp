#include "bad_plugin.h"

ESPALIER_BAD_PLUGIN_ENTRY {
  static EspalierPluginDescriptor descriptor = bad_descriptor(register_nothing);
  descriptor.struct_size = 16;
  return &descriptor;
}
