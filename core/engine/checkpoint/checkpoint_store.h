#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint/background_task.h"
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
  CheckpointStore(const CheckpointStore&) = delete;
  CheckpointStore& operator=(const CheckpointStore&) = delete;
  /// Gives a save under way up.
  ~CheckpointStore();

  /// Saves an average of the weights too, and restores it; it begins anew where a checkpoint has
  /// none. Outlives the store.
  void keep_average(AverageWeights* average) { average_ = average; }

  /// Lets `save` return at once: a snapshot is taken and written on a thread of its own, while the
  /// run goes on. Costs one more copy in the host's memory of what is saved.
  void write_in_background() { in_background_ = true; }
  /// Whether a save is under way.
  bool is_busy() const { return pending_ != nullptr; }
  /// Returns when the snapshot of a save under way is taken: before the run changes what it saves.
  void wait_for_snapshot();
  /// Called by all ranks between steps: commits what they all have written by now. Throws what
  /// failed in the background, on all ranks; nothing half-written is left.
  void advance();
  /// The same, waiting for the end.
  void finish();

  /// Called by all ranks. Throws Error(kIo); the checkpoints that were there stay.
  /// Error(kCheckFailed) when a weight is no finite number: such a checkpoint would push out the
  /// last good one. Waits for the end of a save before.
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
  /// A checkpoint on its way to the disk.
  struct Save;

  std::vector<CheckpointFile> files(
      const TrainState& state, const ParameterOptimizer& optimizer,
      const std::vector<std::shared_ptr<Parameter>>& parameters) const;
  void commit(const Save& save);
  void start(std::unique_ptr<Save> save, const ParameterOptimizer& optimizer,
             const std::vector<std::shared_ptr<Parameter>>& parameters);
  void finish_stage();
  void give_up();
  void point_best_to(const std::string& name);
  void remove_best_but(const std::vector<std::string>& kept);
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
  bool in_background_ = false;
  std::unique_ptr<Save> pending_;
  BackgroundTask task_;  ///< works on `pending_`: after it, so that it ends before
};

/// The values of a checkpoint, of those of some parameters that the run trained.
class TrainedValues {
 public:
  /// `average`: the averages of the weights. Throws Error(kBadInput) when the checkpoint has a
  /// tensor that is none of the parameters, or of another shape or dtype, or no averages.
  TrainedValues(const std::string& checkpoint,
                const std::vector<std::shared_ptr<Parameter>>& parameters, bool average);

  bool contains(const Parameter& parameter) const;
  /// A box of the parameter, in its dtype, on the CPU; no more is read.
  at::Tensor read(const Parameter& parameter, const ShardPiece& piece) const;

 private:
  std::string prefix_;
  ShardReader reader_;
};

/// Puts the values of a checkpoint into those of `parameters` that the run trained; all are whole
/// here. As TrainedValues.
void load_trained_values(const std::string& checkpoint,
                         const std::vector<std::shared_ptr<Parameter>>& parameters,
                         bool average = false);

}  // namespace espalier
