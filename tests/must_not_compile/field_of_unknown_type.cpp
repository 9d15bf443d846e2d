// A setting of a type that no recipe can hold.
#include "espalier/base/config_schema.h"

struct Settings {
  int* pointer = nullptr;
  static espalier::ConfigSchema<Settings> schema() {
    return espalier::ConfigSchema<Settings>().field("pointer", &Settings::pointer, "where");
  }
};

auto spec = Settings::schema();
