#include "bad_plugin.h"

ESPALIER_BAD_PLUGIN_ENTRY {
  static EspalierPluginDescriptor descriptor = bad_descriptor(register_nothing);
  descriptor.magic = 0x12345678;
  return &descriptor;
}
