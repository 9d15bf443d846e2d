#include <stdexcept>

#include "bad_plugin.h"

namespace {

struct First : espalier::testing::Loss {
  std::string describe() const override { return "first"; }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::testing::Loss, First>("first", "Comes before the failure.");
  throw std::runtime_error("the second component needs a file that is not there");
}

}  // namespace

ESPALIER_PLUGIN("bad.plugin", "1.0.0", register_components)
