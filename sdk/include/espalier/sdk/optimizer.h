#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/base/registrar.h"

namespace espalier {

/// Parameters that are treated differently: the first group with a matching pattern wins.
struct ParameterGroupConfig {
  std::vector<std::string> patterns;  ///< names with '*' and '?', e.g. "*bias", "*norm*"
  double lr_multiplier = 1.0;
  std::optional<double> weight_decay;  ///< absent: the optimizer's own

  static ConfigSchema<ParameterGroupConfig> schema() {
    return ConfigSchema<ParameterGroupConfig>()
        .field("patterns", &ParameterGroupConfig::patterns,
               "parameter names, with '*' and '?' as wildcards")
        .required()
        .field("lr_multiplier", &ParameterGroupConfig::lr_multiplier,
               "factor on the learning rate of these parameters")
        .at_least(0)
        .field("weight_decay", &ParameterGroupConfig::weight_decay,
               "weight decay of these parameters")
        .at_least(0);
  }
};

/// One tensor of optimizer state for each parameter. The host creates it (zeros), shards it like
/// the parameter, writes it to checkpoints and gives it back.
struct OptimizerStateSpec {
  enum class Layout { kLikeParameter, kScalar };
  std::string name;  ///< "exp_avg"
  Layout layout = Layout::kLikeParameter;
};

/// Everything an update of some parameters needs; lists of equal length.
struct OptimizerUpdate {
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> gradients;
  std::vector<std::vector<at::Tensor>> states;  ///< [state spec][parameter]
  std::int64_t step = 1;                        ///< counts from 1
  double lr = 0.0;
  double weight_decay = 0.0;
};

/// Update rule; holds no tensors of its own.
class ESPALIER_API Optimizer {
 public:
  static constexpr InterfaceId kInterface{"Optimizer", 1};

  Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer();

  virtual double lr() const = 0;
  virtual double weight_decay() const = 0;
  virtual const std::vector<ParameterGroupConfig>& groups() const = 0;
  virtual std::vector<OptimizerStateSpec> state_specs() const = 0;
  /// In place, without gradient recording. Called once for each group of equal dtype, lr and weight
  /// decay.
  virtual void update(OptimizerUpdate& update) = 0;
};

}  // namespace espalier
