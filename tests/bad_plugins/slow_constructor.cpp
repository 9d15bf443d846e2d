// Takes longer to load than anybody waits.
#include <unistd.h>

#include "bad_plugin.h"

__attribute__((constructor)) static void at_load() { ::sleep(30); }

ESPALIER_BAD_PLUGIN_ENTRY {
  static const EspalierPluginDescriptor kDescriptor = bad_descriptor(register_nothing);
  return &kDescriptor;
}
