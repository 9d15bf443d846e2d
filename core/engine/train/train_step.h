#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "engine/train/optimizer_state.h"
#include "espalier/sdk/adapter.h"
#include "espalier/sdk/lr_scheduler.h"
#include "espalier/sdk/objective.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// What a step is computed with; borrowed.
struct TrainingParts {
  Model& model;
  Objective& objective;
  Loss& loss;
  ParameterOptimizer& optimizer;
  const LrScheduler& lr_scheduler;
  ParallelStrategy* strategy = nullptr;  ///< nullptr: one process holds everything
  double max_norm = 0.0;                 ///< gradients are clipped to this norm; 0: not
  std::int64_t total_steps = 0;
  Adapter* adapter = nullptr;  ///< attached to the model; nullptr without one
  std::uint64_t seed = 0;      ///< of the adapter's randomness
  Model* teacher = nullptr;    ///< frozen; nullptr without one
  World* world = nullptr;      ///< for messages; nullptr: one process
  /// Called when the parameters hold the gradients of the step, before clipping; may be empty.
  std::function<void()> on_gradients = {};
};

struct StepMetrics {
  std::int64_t step = 0;  ///< from 1
  std::int64_t epoch = 0;
  double loss = 0.0;       ///< sum over the step / weight of the step
  double grad_norm = 0.0;  ///< before clipping
  double lr = 0.0;         ///< that the step used
  std::int64_t num_tokens = 0;
  std::int64_t num_label_tokens = 0;
  std::int64_t num_computed_tokens = 0;  ///< fewer where documents share what they begin with
  std::map<std::string, double> terms;   ///< by name, where an objective has more than one
};

/// What objectives compute with: `reference` passes run without gradients and with the adapter
/// switched off.
ObjectiveContext objective_context(const TrainingParts& parts);

/// Announces the pass over micro-batch `number` of `count` of a step to adapter and strategy.
void begin_training_pass(const TrainingParts& parts, std::int64_t step, std::size_t number,
                         std::size_t count, bool last);

/// One optimizer step: weights of all micro-batches first, then forward and backward of each with
/// the right divisor, clipping, update. `step` counts from 1. Throws Error when loss or gradient is
/// not finite, with the tensor and the samples (see non_finite.h); nothing is updated then.
ESPALIER_API StepMetrics train_step(const TrainingParts& parts, const StepBatches& batches,
                                    std::int64_t step);

/// Mean loss per weight over some batches, without gradients.
ESPALIER_API StepMetrics evaluate(const TrainingParts& parts, const std::vector<Batch>& batches);

}  // namespace espalier
