// A setting that belongs to another struct.
#include "espalier/base/config_schema.h"

struct Other {
  double gamma = 2;
};
struct Settings {
  static espalier::ConfigSchema<Settings> schema() {
    return espalier::ConfigSchema<Settings>().field("gamma", &Other::gamma, "how much");
  }
};

auto spec = Settings::schema();
