// A component that can't be made from its settings.
#include "espalier/sdk/plugin.h"

struct Loss {
  static constexpr espalier::InterfaceId kInterface{"Loss", 1};
  virtual ~Loss() = default;
};
struct Settings {
  static espalier::ConfigSchema<Settings> schema() { return {}; }
};
struct Focal : Loss {
  using Config = Settings;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Loss, Focal>("focal", "Has no constructor for its settings.");
}
