// A plugin whose author forgot to register what he wrote.
#include "espalier/sdk/plugin.h"

namespace {

void register_components(espalier::Registrar& /*registrar*/) {}

}  // namespace

ESPALIER_PLUGIN("wrong.empty", "1.0.0", register_components)
