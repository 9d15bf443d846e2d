// Registers well; making its components goes wrong in every way.
#include <stdexcept>

#include "bad_plugin.h"

namespace {

using espalier::testing::Loss;

struct ThrowsAnInt : Loss {
  ThrowsAnInt() { throw 42; }
  std::string describe() const override { return {}; }
};

struct ThrowsAnException : Loss {
  ThrowsAnException() { throw std::runtime_error("no device"); }
  std::string describe() const override { return {}; }
};

struct RefusesItsInput : Loss {
  RefusesItsInput() {
    espalier::throw_bad_input("the vocabulary is too large", "300000", "at most 65536", "here");
  }
  std::string describe() const override { return {}; }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<Loss, ThrowsAnInt>("throws_an_int", "Throws 42.");
  registrar.add<Loss, ThrowsAnException>("throws", "Throws a std::exception.");
  registrar.add<Loss, RefusesItsInput>("refuses", "Finds fault with the user's input.");
  espalier::ComponentDescriptor null;
  null.interface = "Loss";
  null.name = "null";
  null.doc = "Gives nothing.";
  null.create = [](const espalier::Value&) { return std::shared_ptr<void>(); };
  registrar.add_descriptor(std::move(null));
}

}  // namespace

ESPALIER_PLUGIN("bad.plugin", "1.0.0", register_components)
