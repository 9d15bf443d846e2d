#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/loss.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// What an objective computes with. `reference` runs `work` with gradients off and, where adapters
/// are attached, with them switched off: the model as it was before training.
struct ObjectiveContext {
  Model& model;
  Loss& loss;
  std::function<void(const std::function<void()>& work)> reference;
  Model* teacher = nullptr;  ///< of the recipe's [teacher_model]; frozen
  /// True where an adapter is attached: `reference` then sees another model than the one in
  /// training.
  bool has_reference = false;
};

/// One summand of the step: `scale * sum / (weight of the whole step)`.
struct ObjectiveTerm {
  std::string name;
  at::Tensor sum;     ///< scalar with gradient
  double weight = 0;  ///< of this micro-batch: label tokens, pairs, ...
  double scale = 1.0;
  bool averaged = true;  ///< false: the sum is already a mean over the micro-batch and is divided
                         ///< by their number
  /// Written to the log, no part of what is minimised.
  bool measured_only = false;
};

/// What a training step minimises. The trainer asks for the weights of all micro-batches first,
/// then runs each forward and backward with the right divisor. Context and batch are borrowed for
/// the call. One thread at a time. Throws Error(kBadInput) for a batch that lacks what it needs.
class ESPALIER_API Objective {
 public:
  static constexpr InterfaceId kInterface{"Objective", 1};

  Objective() = default;
  Objective(const Objective&) = delete;
  Objective& operator=(const Objective&) = delete;
  virtual ~Objective();

  /// Weight of a micro-batch, from its data alone.
  virtual double weight(const Batch& batch) const = 0;
  /// One or more forward passes over the micro-batch.
  virtual std::vector<ObjectiveTerm> compute(const ObjectiveContext& context,
                                             const Batch& batch) = 0;
};

}  // namespace espalier
