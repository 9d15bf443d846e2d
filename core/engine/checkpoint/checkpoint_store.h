#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint/tensor_shards.h"
#include "engine/data/loader.h"
#include "engine/parallel/rank_agreement.h"
#include "engine/train/average_weights.h"
#include "engine/train/metric_watch.h"
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
  std::int64_t world_size = 1;   ///< processes that trained
  std::int64_t num_threads = 0;  ///< of each
  std::string gemm_provider;     ///< what multiplied the matrices, and on which instruction set
  std::string instruction_set;
  WatchState best;      ///< of the best checkpoint
  WatchState stopping;  ///< of early stopping

  Value to_value() const;
  static TrainState from_value(const Value& value);
};

/// The folder `checkpoints/` of a run: step-00000050/ with state.json, and LATEST with the name of
/// the newest. One process writes model.safetensors and optimizer.safetensors; of several each
/// writes rank-00000-of-00004.safetensors with what it holds, and rank 0 manifest.json, which says
/// where every tensor is. Either is read by any number of processes. A checkpoint is written beside
/// its place, synced and renamed: it is there whole or not at all, whatever happens in between.
/// The checkpoint with the best metric is best-00000050/ beside them, and `best` a link to it. One
/// that a checkpoint of an earlier step counts as the best stays until there is a later one.
class ESPALIER_API CheckpointStore {
 public:
  /// `strategy` says who holds what; nullptr where one process holds everything.
  CheckpointStore(std::string folder, std::int64_t keep, RankAgreement ranks,
                  const ParallelStrategy* strategy);

  /// Saves an average of the weights too, and restores it; it begins anew where a checkpoint has
  /// none. Outlives the store.
  void keep_average(AverageWeights* average) { average_ = average; }

  /// Called by all ranks. Throws Error(kIo); the checkpoints that were there stay.
  /// Error(kCheckFailed) when a weight is no finite number: such a checkpoint would push out the
  /// last good one.
  void save(const TrainState& state, const ParameterOptimizer& optimizer,
            const std::vector<std::shared_ptr<Parameter>>& parameters);
  /// The same, as the best one.
  void save_best(const TrainState& state, const ParameterOptimizer& optimizer,
                 const std::vector<std::shared_ptr<Parameter>>& parameters);
  /// Lets `best` be the checkpoint of `best_step`, if it is still there, and removes the others:
  /// those of steps that are going to be run again. By rank 0.
  void restore_best(std::int64_t best_step);
  /// Finishes what a killed process left undone: half-written folders go, retention is applied,
  /// LATEST names the newest. Throws Error(kIo).
  void tidy();
  /// The newest checkpoint; empty when there is none.
  std::optional<std::string> newest() const;
  /// Removes the checkpoints of steps above `step`: those of a run that starts over are not to be
  /// mistaken for its own.
  void remove_after(std::int64_t step);
  /// Restores parameters and optimizer. Throws Error(kBadInput) when the checkpoint does not fit
  /// the model.
  TrainState load(const std::string& checkpoint, ParameterOptimizer& optimizer,
                  const std::vector<std::shared_ptr<Parameter>>& parameters) const;

 private:
  ParameterLayout layout(const Parameter& parameter) const;
  ParameterLayout layout(const ParameterOptimizer::StateTensor& state) const;
  std::vector<ShardedTensor> sharded_tensors(
      const ParameterOptimizer& optimizer,
      const std::vector<std::shared_ptr<Parameter>>& parameters) const;
  std::string checkpoint_id(const TrainState& state) const;
  void write_part(const std::string& saving, const TrainState& state,
                  const ParameterOptimizer& optimizer,
                  const std::vector<std::shared_ptr<Parameter>>& parameters) const;
  void commit(const std::string& saving, const std::string& name, const TrainState& state);
  void write(const std::string& name, const TrainState& state, const ParameterOptimizer& optimizer,
             const std::vector<std::shared_ptr<Parameter>>& parameters);
  void point_best_to(const std::string& name);
  void remove_best_but(const std::vector<std::string>& kept);
  void load_shards(const std::string& checkpoint, ParameterOptimizer& optimizer,
                   const std::vector<std::shared_ptr<Parameter>>& parameters) const;
  void load_whole(const std::string& checkpoint, ParameterOptimizer& optimizer,
                  const std::vector<std::shared_ptr<Parameter>>& parameters) const;
  void load_whole_average(const std::string& checkpoint) const;
  void remove(const std::string& name);
  void remove_old();
  void remove_unfinished();
  void point_latest_to(const std::string& name);
  std::vector<std::string> complete() const;  ///< names, oldest first

  std::string folder_;
  std::int64_t keep_;
  RankAgreement ranks_;
  const ParallelStrategy* strategy_;
  AverageWeights* average_ = nullptr;
  std::int64_t saved_best_step_ = -1;  ///< that the newest checkpoint counts as the best
};

/// Puts the values of a checkpoint into those of `parameters` that the run trained; all are whole
/// here. `average`: the averages of the weights. Throws Error(kBadInput) when the checkpoint has a
/// tensor that is none of them, or no averages.
void load_trained_values(const std::string& checkpoint,
                         const std::vector<std::shared_ptr<Parameter>>& parameters,
                         bool average = false);

}  // namespace espalier
