// A component that leaves out a function of its interface.
#include "espalier/sdk/plugin.h"

struct Loss {
  static constexpr espalier::InterfaceId kInterface{"Loss", 1};
  virtual ~Loss() = default;
  virtual int value() = 0;
};
struct Half : Loss {};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Loss, Half>("half", "Lacks value().");
}
