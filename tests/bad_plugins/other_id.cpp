#include "bad_plugin.h"

ESPALIER_BAD_PLUGIN_ENTRY {
  static EspalierPluginDescriptor descriptor = bad_descriptor(register_nothing);
  descriptor.id = "bad.other";
  descriptor.version = "2.0.0";
  return &descriptor;
}
