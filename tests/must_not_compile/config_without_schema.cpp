// Settings that do not declare themselves.
#include "espalier/sdk/plugin.h"

struct Loss {
  static constexpr espalier::InterfaceId kInterface{"Loss", 1};
  virtual ~Loss() = default;
};
struct Settings {
  double gamma = 2;
};
struct Focal : Loss {
  using Config = Settings;
  explicit Focal(Settings) {}
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Loss, Focal>("focal", "Its settings have no schema.");
}
