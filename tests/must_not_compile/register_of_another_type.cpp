// A registration function that takes something else.
#include "espalier/sdk/plugin.h"

void register_components(int) {}

ESPALIER_PLUGIN("acme.test", "1.0.0", register_components)
