// A component that is none of the interface that it is registered under.
#include "espalier/sdk/plugin.h"

struct Loss {
  static constexpr espalier::InterfaceId kInterface{"Loss", 1};
  virtual ~Loss() = default;
};
struct Stranger {};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Loss, Stranger>("stranger", "Is no loss.");
}
