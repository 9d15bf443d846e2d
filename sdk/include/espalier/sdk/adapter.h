#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Trains few parameters beside a frozen model (recipe section `peft`). `attach` runs while the
/// model is on the meta device and selects extension points by name; `initialise` runs when all
/// weights have values.
class ESPALIER_API Adapter {
 public:
  static constexpr InterfaceId kInterface{"Adapter", 1};

  Adapter() = default;
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;
  virtual ~Adapter();

  /// Adds extensions to the model's linears, embeddings and attention cores, and freezes the rest.
  /// Throws Error(kBadInput) for a pattern that matches nothing.
  virtual void attach(Model& model) = 0;
  virtual void initialise(Model& model, std::uint64_t seed) = 0;
  /// The adapter's own parameters.
  virtual std::vector<std::shared_ptr<Parameter>> parameters() const = 0;
};

}  // namespace espalier
