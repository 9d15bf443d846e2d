#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/train/whole_updates.h"
#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// The optimizer with the tensors that it updates: parameters in groups of equal treatment, and
/// their state.
class ESPALIER_API ParameterOptimizer {
 public:
  /// `groups` come after the optimizer's own. Throws Error(kBadInput) when a pattern of a group of
  /// the optimizer matches no parameter, Error(kUnsupported) when the optimizer can't update what
  /// the strategy of `ranks` has cut. Collective.
  ParameterOptimizer(std::shared_ptr<Optimizer> optimizer,
                     std::vector<std::shared_ptr<Parameter>> parameters,
                     const std::vector<ParameterGroupConfig>& groups = {}, Ranks ranks = {});

  /// Applies the gradients held by the parameters and clears them. `step` counts from 1; `lr` is
  /// the scheduled rate. Collective.
  void step(std::int64_t step, double lr);
  double base_lr() const { return optimizer_->lr(); }
  const std::vector<std::shared_ptr<Parameter>>& parameters() const { return parameters_; }
  void clear_gradients();

  /// One tensor of state.
  struct StateTensor {
    std::string name;  ///< "<state>.<parameter>"
    at::Tensor tensor;
    const Parameter* parameter = nullptr;
    enum class Held {
      kLikeParameter,  ///< cut among ranks as the parameter is
      kByAll,          ///< whole, the same on all ranks
      kHere,           ///< whole, by this rank alone
    };
    Held held = Held::kLikeParameter;
  };
  /// All that this rank holds; none before the first step. While an EvalPoint lives, the point of
  /// training is among them.
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
  void update_whole(std::int64_t step, double lr);
  /// Of what the state of a parameter is made: the shard, or the whole without memory; undefined
  /// where another rank has the state.
  at::Tensor state_model(std::size_t parameter) const;

  std::shared_ptr<Optimizer> optimizer_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::vector<OptimizerStateSpec> specs_;
  WholeUpdates whole_;
  std::vector<Group> groups_;
  std::vector<std::vector<at::Tensor>> states_;  ///< [spec][parameter]
  std::vector<at::Tensor> training_point_;       ///< [parameter], while an EvalPoint lives
};

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)).
ESPALIER_API void clip_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters,
                                 double norm, double max_norm);

}  // namespace espalier
