#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/sdk/model.h"

namespace espalier::nn {

// Of all modules in this namespace: a constructor declares parameters in its scope, without values
// (on the meta device), and throws Error(kBadInput) for a spec that can't be; forward() is for one
// thread at a time, autograd's too where a backward pass recomputes, keeps no argument, and leaves
// a tensor of the wrong shape to LibTorch's c10::Error. A model owns its modules; a parameter is
// shared by the parts, its block and its modules.

/// Where a module puts what it declares while it is built: the model's parts, the parameters of the
/// block that it belongs to, and the prefix of its names. Small, and copied freely; valid while the
/// model's constructor runs.
class ModuleScope {
 public:
  /// `parts` and `block_parameters` outlive the scope.
  ModuleScope(ModelParts& parts, std::vector<std::shared_ptr<Parameter>>& block_parameters,
              std::string prefix)
      : parts_(&parts), block_parameters_(&block_parameters), prefix_(std::move(prefix)) {}

  /// A scope for what is below `name`; "" is this one.
  ModuleScope child(const std::string& name) const {
    return {*parts_, *block_parameters_, name.empty() ? prefix_ : qualified(name)};
  }
  /// prefix.name
  std::string qualified(const std::string& name) const {
    if (name.empty()) return prefix_;
    return prefix_.empty() ? name : prefix_ + "." + name;
  }

  /// A new parameter named prefix.name. `transposed`: stored on disk with its two dimensions
  /// swapped.
  std::shared_ptr<Parameter> parameter(const std::string& name, std::vector<Dimension> dimensions,
                                       Initialisation initialisation, bool transposed = false) {
    const ParameterSpec spec{qualified(name), std::move(dimensions), initialisation};
    return parameter(spec, identity_mapping(spec, transposed));
  }
  /// A new parameter with a layout on disk of its own.
  std::shared_ptr<Parameter> parameter(const ParameterSpec& spec, DiskMapping mapping) {
    auto parameter = std::make_shared<Parameter>(spec);
    parts_->parameters.push_back(parameter);
    parts_->mappings.push_back(std::move(mapping));
    block_parameters_->push_back(parameter);
    return parameter;
  }
  /// Uses a parameter of another module here (tied weights).
  void share(const std::shared_ptr<Parameter>& parameter) {
    block_parameters_->push_back(parameter);
  }

  ModelParts& parts() { return *parts_; }
  const std::string& prefix() const { return prefix_; }

 private:
  ModelParts* parts_;
  std::vector<std::shared_ptr<Parameter>>* block_parameters_;
  std::string prefix_;
};

}  // namespace espalier::nn
