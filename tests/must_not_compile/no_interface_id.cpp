// An interface without an id.
#include "espalier/sdk/plugin.h"

struct Anything {};
struct Thing : Anything {};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Anything, Thing>("thing", "Of no interface.");
}
