// Ends the process with an exit code of its own where static objects are destroyed.
#include <unistd.h>

#include "bad_plugin.h"

__attribute__((destructor)) static void at_exit() { ::_exit(42); }

ESPALIER_BAD_PLUGIN_ENTRY {
  static const EspalierPluginDescriptor kDescriptor = bad_descriptor(register_nothing);
  return &kDescriptor;
}
