#include "bad_plugin.h"

BAD_PLUGIN_ENTRY { return nullptr; }
