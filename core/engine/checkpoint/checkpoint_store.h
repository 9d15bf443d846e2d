#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "engine/train/optimizer_state.h"
#include "espalier/base/value.h"

namespace espalier {

/// What a run needs besides tensors to go on as if it had not stopped.
struct TrainState {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  std::int64_t total_steps = 0;
  std::uint64_t seed = 0;
  LoaderState loader;
  std::int64_t num_threads = 0;
  std::string gemm_provider;  ///< what multiplied the matrices, and on which instruction set
  std::string instruction_set;

  Value to_value() const;
  static TrainState from_value(const Value& value);
};

/// The folder `checkpoints/` of a run: step-00000050/ with model.safetensors, optimizer.safetensors
/// and state.json, and LATEST with the name of the newest. A checkpoint is written beside its
/// place, synced and renamed: it is there whole or not at all, whatever happens in between.
class ESPALIER_API CheckpointStore {
 public:
  CheckpointStore(std::string folder, std::int64_t keep);

  /// Throws Error(kIo); the checkpoints that were there stay.
  void save(const TrainState& state, const ParameterOptimizer& optimizer,
            const std::vector<std::shared_ptr<Parameter>>& parameters);
  /// The newest checkpoint; empty when there is none. Also finishes what a killed process left
  /// undone: half-written folders go, retention is applied, LATEST names the newest. Throws
  /// Error(kIo).
  std::optional<std::string> latest();
  /// Removes the checkpoints of steps above `step`: those of a run that starts over are not to be
  /// mistaken for its own.
  void remove_after(std::int64_t step);
  /// Restores parameters and optimizer. Throws Error(kBadInput) when the checkpoint does not fit
  /// the model.
  static TrainState load(const std::string& checkpoint, ParameterOptimizer& optimizer,
                         const std::vector<std::shared_ptr<Parameter>>& parameters);

 private:
  void remove(const std::string& name);
  void remove_old();
  void remove_unfinished();
  void point_latest_to(const std::string& name);
  std::vector<std::string> complete() const;  ///< names, oldest first

  std::string folder_;
  std::int64_t keep_;
};

}  // namespace espalier
