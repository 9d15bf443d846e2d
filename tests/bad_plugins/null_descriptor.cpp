#include "bad_plugin.h"

ESPALIER_BAD_PLUGIN_ENTRY { return nullptr; }
