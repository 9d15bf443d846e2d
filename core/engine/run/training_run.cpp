#include "engine/run/training_run.h"

#include <algorithm>
#include <filesystem>

#include "engine/run/freezing.h"
#include "espalier/base/error.h"
#include "espalier/ops/op.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPlannedRows = 256;  // samples looked at for the memory plan

std::vector<std::shared_ptr<Parameter>> trainable_parameters(Model& model, const Adapter* adapter) {
  std::vector<std::shared_ptr<Parameter>> trainable;
  for (const auto& parameter : model.parts().parameters) {
    if (parameter->trainable()) trainable.push_back(parameter);
  }
  if (adapter != nullptr) {
    for (const auto& parameter : adapter->parameters()) trainable.push_back(parameter);
  }
  if (trainable.empty())
    throw_bad_input("no parameter is trainable", {}, "at least one", "the recipe");
  return trainable;
}

/// Puts the implementations of a kernel pack into the table of ops, or says why this machine can't
/// run them.
void use_kernels(KernelPack& pack) {
  if (const std::string reason = pack.unavailable(); !reason.empty()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "the kernel pack can't run on this machine",
                        reason,
                        {},
                        "[kernels]",
                        "leave the section out to use the reference kernels"});
  }
  for (ops::OpImplementation& implementation : pack.implementations()) {
    ops::OpTable::instance().add(std::move(implementation));
  }
}

}  // namespace

TrainingRun::TrainingRun(const EngineCall& call)
    : settings_(call.option("recipe")), output_dir_(settings_.run.output_dir) {
  const std::string folder = call.text("model");
  // Data first: most mistakes are in it, and it is read in a moment.
  data_ = open_data(call, settings_, call.flag("quiet"));
  if (call.request.components.contains("kernels")) use_kernels(*call.create<KernelPack>("kernels"));
  ModelLoadOptions options;
  options.dtype = settings_.model.dtype;
  options.compute_dtype = settings_.model.compute_dtype;
  options.device = settings_.run.device;
  options.random_weights = settings_.model.from_config;
  options.seed = static_cast<std::uint64_t>(settings_.run.seed);
  model_ = load_model(*call.create<ModelProvider>("model"), folder, options, call.adapter("peft"));
  freeze_parameters(*model_.model, settings_.freeze);
  model_.model->set_training(true);
  load_teacher(call);
  if (call.request.components.contains("distributed")) {
    strategy_ = call.create<ParallelStrategy>("distributed");
    strategy_->apply(*model_.model);
  }
  loss_ = call.create<Loss>("loss_fn");
  objective_ = call.create<Objective>("objective");
  lr_scheduler_ = call.create<LrScheduler>("lr_scheduler");
  optimizer_ = std::make_unique<ParameterOptimizer>(
      call.create<Optimizer>("optimizer"),
      trainable_parameters(*model_.model, model_.adapter.get()),
      model_.adapter == nullptr ? std::vector<ParameterGroupConfig>()
                                : model_.adapter->parameter_groups());
  const config::StepSchedulerConfig& steps = settings_.step_scheduler;
  if (steps.num_epochs || !steps.max_steps) {
    total_steps_ = steps.num_epochs.value_or(1) *
                   DataLoader(data_.training, loader_options()).steps_per_epoch();
  }
  if (steps.max_steps)
    total_steps_ = total_steps_ == 0 ? *steps.max_steps : std::min(total_steps_, *steps.max_steps);
}

LoaderOptions TrainingRun::loader_options() const {
  return espalier::loader_options(settings_, data_.tokenizer.get(),
                                  model_.model ? model_.model->shape().max_positions : 0);
}

void TrainingRun::load_teacher(const EngineCall& call) {
  if (!call.request.components.contains("teacher_model")) return;
  ModelLoadOptions options;
  options.dtype = settings_.teacher_model.dtype;
  options.compute_dtype = settings_.teacher_model.compute_dtype;
  teacher_ =
      load_model(*call.create<ModelProvider>("teacher_model"), call.text("teacher"), options);
  for (const auto& parameter : teacher_.model->parts().parameters) parameter->set_trainable(false);
}

/// How an adapter's config names its base: the hub id, or the folder.
std::string TrainingRun::base_name() const {
  return fs::is_directory(settings_.model.path) ? model_.folder : settings_.model.path;
}

TrainingParts TrainingRun::parts() {
  return {*model_.model,
          *objective_,
          *loss_,
          *optimizer_,
          *lr_scheduler_,
          strategy_.get(),
          settings_.clip_grad_norm.max_norm,
          total_steps_,
          model_.adapter.get(),
          static_cast<std::uint64_t>(settings_.run.seed),
          teacher_.model.get()};
}

MemoryPlan TrainingRun::memory_plan() {
  MemoryPlanInput input;
  input.parameter_bytes = parameter_bytes(*model_.model);
  if (teacher_.model != nullptr) input.parameter_bytes += parameter_bytes(*teacher_.model);
  for (const auto& parameter : optimizer_->parameters()) {
    input.trainable_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  }
  input.optimizer_bytes = optimizer_->state_bytes();
  input.compute_bytes = static_cast<std::int64_t>(at::elementSize(model_.compute_dtype));
  input.shape = model_.model->shape();
  LoaderOptions options = loader_options();
  const std::int64_t rows = options.rows.kind == RowKind::kSample ? kPlannedRows : 1;
  options.rows_per_step = std::max(rows, options.rows_per_batch);
  options.prefetch_samples = options.rows_per_step;
  for (const Batch& batch : DataLoader(data_.training, options).next().batches) {
    input.tokens = std::max(input.tokens, batch.num_tokens);
    input.label_tokens = std::max(input.label_tokens, batch.num_label_tokens);
  }
  return plan_memory(input);
}

}  // namespace espalier
