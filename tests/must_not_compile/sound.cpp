// What the others would be without their mistake.
#include "espalier/sdk/plugin.h"

namespace {

struct Loss {
  static constexpr espalier::InterfaceId kInterface{"Loss", 1};
  virtual ~Loss() = default;
  virtual int value() = 0;
};

struct Settings {
  double gamma = 2;
  static espalier::ConfigSchema<Settings> schema() {
    return espalier::ConfigSchema<Settings>().field("gamma", &Settings::gamma, "how much");
  }
};

struct Focal : Loss {
  using Config = Settings;
  explicit Focal(Settings) {}
  int value() override { return 1; }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Loss, Focal>("focal", "As it should be.");
}

void shut_down() {}

}  // namespace

ESPALIER_PLUGIN("acme.test", "1.0.0", register_components, shut_down)
