#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// Parameters that are treated differently: the first group with a matching pattern wins.
struct ParameterGroupConfig {
  std::vector<std::string> patterns;  ///< names with '*' and '?', e.g. "*bias", "*norm*"
  double lr_multiplier = 1.0;
  std::optional<double> weight_decay;  ///< absent: the optimizer's own
  double weight_decay_multiplier = 1.0;

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
        .at_least(0)
        .field("weight_decay_multiplier", &ParameterGroupConfig::weight_decay_multiplier,
               "factor on the weight decay of these parameters")
        .at_least(0);
  }
};

/// One tensor of optimizer state for each parameter. The host creates it (zeros), shards it like
/// the parameter, writes it to checkpoints and gives it back.
struct OptimizerStateSpec {
  enum class Layout {
    kLikeParameter,
    kScalar,
    kRows,     ///< the parameter's shape without its last dimension
    kColumns,  ///< the parameter's shape without the one before its last
    kBlocks,   ///< [blocks]: a value for each `block_size` elements of the flattened parameter
    kNone,     ///< the parameter has no such state; an update gets an undefined tensor
  };
  std::string name;  ///< "exp_avg"
  Layout layout = Layout::kLikeParameter;
  std::optional<at::ScalarType> dtype = std::nullopt;  ///< absent: the parameter's
  std::int64_t block_size = 0;                         ///< of kBlocks
};

/// What an update looks at together.
enum class OptimizerNeed {
  kElements,  ///< each element by itself: it sees the shard of a parameter that is cut
  /// Sums over a parameter, its rows or blocks, or products of the whole matrix. A parameter that
  /// is cut is gathered for one rank, which keeps its state and updates it, and cut again.
  kWhole,
};

/// Everything an update of some parameters needs; lists of equal length.
struct OptimizerUpdate {
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> gradients;
  std::vector<std::vector<at::Tensor>> states;  ///< [state spec][parameter]
  std::int64_t step = 1;                        ///< counts from 1
  double lr = 0.0;
  double weight_decay = 0.0;
  std::vector<const ParameterSpec*> specs = {};  ///< of the parameters, whole
};

/// Update rule; holds no tensors of its own: what it is given belongs to the host and is changed in
/// place. One thread at a time. Throws Error(kUnsupported) for parameters that the rule can't take.
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

  /// The state `spec` of one parameter, for rules that hold other things of some: another layout,
  /// dtype or none. Depends on nothing but its arguments.
  virtual OptimizerStateSpec state_of(const OptimizerStateSpec& spec,
                                      const ParameterSpec& parameter) const;
  virtual OptimizerNeed need() const { return OptimizerNeed::kElements; }
  /// The need of one parameter, for rules that treat some otherwise. Depends on nothing but its
  /// argument.
  virtual OptimizerNeed need_of(const ParameterSpec& parameter) const;
  /// True for rules that train at another point than the one that is the result (averages of
  /// iterates). Validation, checkpoints and exports then use the latter.
  virtual bool has_eval_point() const { return false; }
  /// Replaces update.parameters by the point that is the result. `gradients` is empty; states stay
  /// as they are.
  virtual void to_eval_point(OptimizerUpdate& update);
};

/// Shape of a state of a parameter that is held with shape `sizes`; empty for kNone too.
ESPALIER_API std::vector<std::int64_t> state_shape(const OptimizerStateSpec& state,
                                                   at::IntArrayRef sizes);

/// Zeros for one state of a parameter with value `value`; undefined for kNone.
ESPALIER_API at::Tensor make_state(const OptimizerStateSpec& state, const at::Tensor& value);

}  // namespace espalier
