#include <stdexcept>

#include "espalier/sdk/plugin.h"

static void register_components(espalier::Registrar&) {
  throw std::runtime_error("the table of kernels is empty");
}

ESPALIER_PLUGIN("bad.plugin", "1.0.0", register_components)
