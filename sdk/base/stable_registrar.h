#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/stable_c.h"

namespace espalier {

/// Lets a plugin of the stable tier fill a Registrar: turns its C structures into descriptors of
/// components. One registration; keep it while that runs.
class ESPALIER_API StableRegistrar {
 public:
  explicit StableRegistrar(Registrar& registrar);
  StableRegistrar(const StableRegistrar&) = delete;
  StableRegistrar& operator=(const StableRegistrar&) = delete;

  /// What the plugin's register_components takes.
  EspalierCRegistrar* c_registrar() { return &table_; }
  /// Why the last call was refused; empty where none was.
  const std::string& refusal() const { return refusal_; }

 private:
  friend struct StableCalls;

  Registrar& registrar_;
  EspalierCRegistrar table_;
  std::string refusal_;
};

/// Makes the C++ object of an interface from a plugin's C structure. LibTorch's side sets one for
/// each interface of the tier; without it components of the tier can be listed and not made.
using StableFactory = std::shared_ptr<void> (*)(const void* structure, const Value& config);
ESPALIER_API void set_stable_factory(std::string_view interface, StableFactory factory);

}  // namespace espalier
