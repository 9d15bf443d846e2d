#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint_store.h"
#include "engine/commands/engine_command.h"
#include "engine/parallel/rank_agreement.h"
#include "engine/run/memory_plan.h"
#include "engine/run/model_loader.h"
#include "engine/run/run_data.h"
#include "engine/run/run_settings.h"
#include "engine/train/optimizer_state.h"
#include "engine/train/train_step.h"
#include "espalier/sdk/communicator.h"
#include "espalier/sdk/logger.h"

namespace espalier {

/// What a rank holds and computes in a step, in bytes.
struct StepEstimate {
  std::int64_t parameter_bytes = 0;
  std::int64_t gradient_bytes = 0;
  std::int64_t optimizer_bytes = 0;
  /// Most that a step allocates beyond parameters and optimizer state: gradients, activations, what
  /// is gathered, buffers of collectives.
  std::int64_t step_peak_bytes = 0;
  std::int64_t activation_bytes = 0;  ///< most at once, of what the step computes
  std::int64_t peak_bytes = 0;        ///< of everything that tensors take; 0: not measured
  std::int64_t micro_batches = 0;
  double step_seconds = 0;  ///< of computing, on this machine
  std::int64_t total_bytes() const {
    return peak_bytes > 0 ? peak_bytes : parameter_bytes + optimizer_bytes + step_peak_bytes;
  }
};

/// A recipe made into objects, in the order in which they need each other: model, adapter, data,
/// loss, objective, optimizer, schedule. Owns all of them.
class TrainingRun {
 public:
  /// `world` outlives the run; every rank makes the same one.
  TrainingRun(const EngineCall& call, World& world);

  /// Trains from where the newest checkpoint left off (`resume`: "auto", "never" or a checkpoint
  /// folder) to the end and exports the model. Returns the exit code: 0, or kStoppedExitCode after
  /// a signal.
  int train(const std::string& resume, bool quiet);

  /// Computes two steps and measures the second; `before_second` is called between them.
  StepEstimate estimate(const std::function<void()>& before_second);
  /// What the run will hold in memory, from the first rows of the data.
  MemoryPlan memory_plan();
  /// Share of the tokens of the first rows that documents begin with as another one does, so that
  /// they are not computed again.
  double shared_share();
  const LoadedModel& model() const { return model_; }
  std::int64_t total_steps() const { return total_steps_; }
  /// Tokens of a row that samples are packed into; 0: a sample is a row.
  std::int64_t packed_tokens() const { return settings_.packed_sequence.packed_sequence_size; }

 private:
  friend class TrainingLoop;

  void open_data_in_turn(const EngineCall& call);
  void make_strategy(const EngineCall& call);
  void apply_strategy();
  LoaderOptions loader_options() const;
  /// The first micro-batches of the data, made once.
  const std::vector<Batch>& first_batches();
  void load_teacher(const EngineCall& call);
  std::string base_name() const;
  void export_result(const std::string& folder);
  void export_adapter_of_ranks(const std::string& folder);
  TrainingParts parts();
  /// Runs `work` on the parameters that are the result so far.
  void at_eval_point(const std::function<void()>& work);

  World& world_;
  RankAgreement ranks_;
  RunSettings settings_;
  std::string output_dir_;
  RunData data_;
  LoadedModel model_;
  LoadedModel teacher_;  ///< without a model where the recipe has none
  std::shared_ptr<ParallelStrategy> strategy_;
  std::shared_ptr<Loss> loss_;
  std::shared_ptr<Objective> objective_;
  std::shared_ptr<LrScheduler> lr_scheduler_;
  std::unique_ptr<ParameterOptimizer> optimizer_;
  std::vector<std::shared_ptr<Logger>> loggers_;
  Value recipe_;
  std::int64_t total_steps_ = 0;
  std::vector<Batch> first_batches_;
};

}  // namespace espalier
