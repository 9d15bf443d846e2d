#include "bad_plugin.h"

namespace acme {
int function_that_nobody_defines(double value);
}

static void register_components(espalier::Registrar&) { acme::function_that_nobody_defines(1.0); }

ESPALIER_PLUGIN("bad.plugin", "1.0.0", register_components)
