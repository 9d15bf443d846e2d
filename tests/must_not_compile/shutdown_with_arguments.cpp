// A shutdown function that wants something.
#include "espalier/sdk/plugin.h"

void register_components(espalier::Registrar&) {}
void shut_down(int) {}

ESPALIER_PLUGIN("acme.test", "1.0.0", register_components, shut_down)
