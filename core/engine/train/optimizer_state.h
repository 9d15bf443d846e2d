#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// The optimizer with the tensors that it updates: parameters in groups of equal treatment, and
/// their state.
class ESPALIER_API ParameterOptimizer {
 public:
  /// `groups` come after the optimizer's own. Throws Error(kBadInput) when a pattern of a group of
  /// the optimizer matches no parameter.
  ParameterOptimizer(std::shared_ptr<Optimizer> optimizer,
                     std::vector<std::shared_ptr<Parameter>> parameters,
                     const std::vector<ParameterGroupConfig>& groups = {});

  /// Applies the gradients held by the parameters and clears them. `step` counts from 1; `lr` is
  /// the scheduled rate.
  void step(std::int64_t step, double lr);
  double base_lr() const { return optimizer_->lr(); }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const { return parameters_; }
  void clear_gradients();

  /// One tensor of state.
  struct StateTensor {
    std::string name;  ///< "<state>.<parameter>"
    at::Tensor tensor;
    const Parameter* parameter = nullptr;
    bool like_parameter = true;  ///< cut among ranks as the parameter is; otherwise whole
  };
  /// All of them; none before the first step. While an EvalPoint lives, the point of training is
  /// among them.
  std::vector<StateTensor> state_tensors() const;
  /// Makes state of zeros where there is none yet.
  void create_state();

  /// State tensors by "<state>.<parameter>"; empty before the first step.
  std::map<std::string, at::Tensor> state() const;
  /// Bytes of state once it exists.
  std::int64_t state_bytes() const;

  /// While alive, parameters hold what is the result of training so far, for optimizers that train
  /// at another point; nothing happens with others. Sharded values that were gathered before are
  /// out of date at both ends.
  class EvalPoint {
   public:
    explicit EvalPoint(ParameterOptimizer& optimizer);
    EvalPoint(const EvalPoint&) = delete;
    EvalPoint& operator=(const EvalPoint&) = delete;
    ~EvalPoint();

   private:
    ParameterOptimizer* optimizer_;  ///< nullptr: nothing to take back
  };
  bool has_eval_point() const { return optimizer_->has_eval_point(); }

 private:
  struct Group {
    double lr_multiplier = 1.0;
    double weight_decay = 0.0;
    at::ScalarType dtype = at::kFloat;
    std::vector<std::size_t> members;  ///< indices into parameters_
  };

  void make_groups(const std::vector<ParameterGroupConfig>& further);
  OptimizerUpdate update_of(const Group& group, bool with_gradients) const;

  std::shared_ptr<Optimizer> optimizer_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<OptimizerStateSpec> specs_;
  std::vector<Group> groups_;
  std::vector<std::vector<at::Tensor>> states_;  ///< [spec][parameter]
  std::vector<at::Tensor> training_point_;       ///< [parameter], while an EvalPoint lives
};

/// Throws Error(kUnsupported) where the optimizer looks at whole parameters and a strategy has cut
/// one.
void require_whole_parameters(const Optimizer& optimizer,
                              const std::vector<std::shared_ptr<Parameter>>& parameters);

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)).
ESPALIER_API void clip_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters,
                                 double norm, double max_norm);

}  // namespace espalier
