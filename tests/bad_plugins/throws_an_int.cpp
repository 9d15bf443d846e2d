#include <stdexcept>

#include "espalier/sdk/plugin.h"

static void register_components(espalier::Registrar&) { throw 42; }

ESPALIER_PLUGIN("bad.plugin", "1.0.0", register_components)
