#include "engine/run/training_run.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "engine/checkpoint/export.h"
#include "engine/memory/caching_allocator.h"
#include "engine/parallel/memory_meter.h"
#include "engine/parallel/value_gatherer.h"
#include "engine/run/freezing.h"
#include "espalier/base/error.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "launch/rank_environment.h"
#include "plugin/capabilities.h"
#include "plugin/model_provider.h"

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

/// What a quantizer holds is not trained.
void require_frozen_weights(const EngineCall& call) {
  if (call.request.components.contains("peft")) return;
  throw Error(Problem{ErrorCode::kUnsupported, "quantised weights can't be trained",
                      "a section [quantization] without [peft]",
                      "an adapter beside the quantised model", "[quantization]",
                      "add a [peft] section, or leave [quantization] out"});
}

}  // namespace

TrainingRun::TrainingRun(const EngineCall& call, World& world)
    : world_(world),
      ranks_(world),
      settings_(call.option("recipe")),
      output_dir_(settings_.run.output_dir) {
  const std::string folder = call.text("model");
  // Data first: most mistakes are in it, and it is read in a moment.
  open_data_in_turn(call);
  ModelLoadOptions options;
  options.dtype = settings_.model.dtype;
  options.compute_dtype = settings_.model.compute_dtype;
  options.device = settings_.run.device;
  options.random_weights = settings_.model.from_config;
  options.files = model_files(call);
  options.seed = static_cast<std::uint64_t>(settings_.run.seed);
  Table overrides;
  for (const auto& [key, value] : settings_.model.config) overrides.set(key, value);
  options.config = std::move(overrides);
  options.task = settings_.model.task;
  options.attn_implementation = settings_.model.attn_implementation;
  options.token_head = plugin::token_head_of(call.request.components.at("model").component);
  if (call.request.components.contains("quantization")) {
    require_frozen_weights(call);
    options.quantizer = call.create<Quantizer>("quantization");
  }
  make_strategy(call);
  const auto adapter = call.adapter("peft");
  options.without_values = strategy_ != nullptr && strategy_->applies_without_values();
  model_ = load_model(*call.create<ModelProvider>("model"), folder, options, adapter);
  plugin::require_capability(call.request.components.at("model").component, task_name(model_.task),
                             "[model]");
  freeze_parameters(*model_.model, settings_.freeze);
  model_.model->set_training(true);
  const bool alike = model_.adapter == nullptr || !model_.adapter->draws_for_tokens();
  model_.model->set_share_prefixes(settings_.model.share_prefixes && alike);
  load_teacher(call);
  apply_strategy();
  loss_ = call.create<Loss>("loss_fn");
  objective_ = call.create<Objective>("objective");
  lr_scheduler_ = call.create<LrScheduler>("lr_scheduler");
  const auto optimizer = call.create<Optimizer>("optimizer");
  const auto trainable = trainable_parameters(*model_.model, model_.adapter.get());
  optimizer_ = std::make_unique<ParameterOptimizer>(optimizer, trainable,
                                                    model_.adapter == nullptr
                                                        ? std::vector<ParameterGroupConfig>()
                                                        : model_.adapter->parameter_groups(),
                                                    Ranks{strategy_.get(), &world_});
  recipe_ = call.option("recipe");
  for (const auto& [section, chosen] : call.request.components) {
    if (section.starts_with("logger")) loggers_.push_back(call.create<Logger>(section));
  }
  const config::StepSchedulerConfig& steps = settings_.step_scheduler;
  if (steps.num_epochs || !steps.max_steps) {
    total_steps_ = steps.num_epochs.value_or(1) *
                   DataLoader(data_.training, loader_options()).steps_per_epoch();
  }
  if (steps.max_steps)
    total_steps_ = total_steps_ == 0 ? *steps.max_steps : std::min(total_steps_, *steps.max_steps);
}

/// Where tokens are kept in files, the first process of a host makes those of the host; the others
/// find them, or make samples as without.
void TrainingRun::open_data_in_turn(const EngineCall& call) {
  const bool quiet = call.flag("quiet") || !ranks_.is_first();
  const bool first_of_host = launch::read_rank_environment().local_rank == 0;
  if (world_.size() == 1 || !settings_.dataloader.token_cache) {
    data_ = open_data(call, settings_, quiet);
    return;
  }
  ranks_.on_all("opening the data", [&] {
    if (first_of_host) data_ = open_data(call, settings_, quiet);
  });
  if (!first_of_host) data_ = open_data(call, settings_, quiet, /*makes_caches=*/false);
}

void TrainingRun::make_strategy(const EngineCall& call) {
  if (call.request.components.contains("distributed")) {
    strategy_ = call.create<ParallelStrategy>("distributed");
    strategy_->set_up(world_);
  } else if (world_.size() > 1) {
    throw_bad_input("several processes train without a strategy", std::to_string(world_.size()),
                    "a section [distributed]", "the recipe",
                    "type = \"...\" there; espalier plugins list shows the strategies");
  }
}

void TrainingRun::apply_strategy() {
  if (strategy_ == nullptr) return;
  ProblemList problems;
  strategy_->check(*model_.model, problems);
  problems.throw_if_any();
  strategy_->apply(*model_.model);
  if (model_.source == nullptr) return;
  ranks_.on_all("reading the model", [&] { read_values(model_, *strategy_); });
}

LoaderOptions TrainingRun::loader_options() const {
  LoaderOptions options = espalier::loader_options(
      settings_, data_.tokenizer.get(), model_.model ? model_.model->shape().max_positions : 0);
  if (strategy_ != nullptr) {
    options.share_index = strategy_->data_share().index;
    options.share_count = strategy_->data_share().count;
  }
  return options;
}

void TrainingRun::load_teacher(const EngineCall& call) {
  if (!call.request.components.contains("teacher_model")) return;
  ModelLoadOptions options;
  options.dtype = settings_.teacher_model.dtype;
  options.compute_dtype = settings_.teacher_model.compute_dtype;
  options.files = model_files(call, "teacher_model");
  teacher_ =
      load_model(*call.create<ModelProvider>("teacher_model"), call.text("teacher"), options);
  for (const auto& parameter : teacher_.model->parts().parameters) parameter->set_trainable(false);
  teacher_.model->set_share_prefixes(settings_.model.share_prefixes);
}

/// How an adapter's config names its base: the hub id, or the folder.
std::string TrainingRun::base_name() const {
  return fs::is_directory(settings_.model.path) ? model_.folder : settings_.model.path;
}

/// A model is written by all ranks, an adapter, which is small, by the first.
void TrainingRun::export_result(const std::string& folder) {
  if (world_.size() == 1) {
    model_.adapter != nullptr ? export_adapter(model_, folder, base_name())
                              : export_model(model_, folder);
  } else if (model_.adapter != nullptr) {
    export_adapter_of_ranks(folder);
  } else {
    export_from_ranks(model_, folder, ranks_, *strategy_);
  }
}

void TrainingRun::export_adapter_of_ranks(const std::string& folder) {
  std::vector<std::shared_ptr<Parameter>> parameters = model_.model->parts().parameters;
  const auto& added = model_.adapter->parameters();
  parameters.insert(parameters.end(), added.begin(), added.end());
  ValueGatherer gatherer(world_, *strategy_, std::move(parameters));
  ranks_.on_all("exporting the adapter", [&] {
    if (!ranks_.is_first()) {
      gatherer.serve();
      return;
    }
    std::exception_ptr failure;
    try {
      export_adapter(model_, folder, base_name(),
                     [&](const Parameter& parameter) { return gatherer.value(parameter); });
    } catch (const Error&) {
      failure = std::current_exception();
    }
    gatherer.finish();
    if (failure) std::rethrow_exception(failure);
  });
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
          teacher_.model.get(),
          &world_};
}

void TrainingRun::at_eval_point(const std::function<void()>& work) {
  const auto moved = [&] {
    if (strategy_ != nullptr && optimizer_->has_eval_point()) strategy_->parameters_changed();
  };
  {
    const ParameterOptimizer::EvalPoint point(*optimizer_);
    moved();
    work();
  }
  moved();
}

const std::vector<Batch>& TrainingRun::first_batches() {
  if (!first_batches_.empty()) return first_batches_;
  LoaderOptions options = loader_options();
  const std::int64_t rows = options.rows.kind == RowKind::kSample ? kPlannedRows : 1;
  options.rows_per_step = std::max(rows, options.rows_per_batch);
  options.prefetch_samples = options.rows_per_step;
  first_batches_ = DataLoader(data_.training, options).next().batches;
  return first_batches_;
}

double TrainingRun::shared_share() {
  std::int64_t tokens = 0;
  std::int64_t rows = 0;
  for (const Batch& batch : first_batches()) {
    tokens += batch.num_tokens;
    rows += model_.model->rows({batch.tensors});
  }
  return tokens > rows ? 1.0 - static_cast<double>(rows) / static_cast<double>(tokens) : 0.0;
}

MemoryPlan TrainingRun::memory_plan() {
  MemoryPlanInput input;
  input.parameter_bytes = parameter_bytes(*model_.model);
  if (teacher_.model != nullptr) input.parameter_bytes += parameter_bytes(*teacher_.model);
  for (const auto& parameter : optimizer_->parameters()) {
    input.trainable_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  }
  input.optimizer_bytes = optimizer_->state_bytes();
  const Parameter* head = model_.model->head().linear().weight().get();
  for (const nn::Embedding* embedding : model_.model->parts().embeddings) {
    if (embedding->weight().get() == head && head->trainable())
      input.tied_bytes = static_cast<std::int64_t>(head->value().nbytes());
  }
  input.compute_bytes = static_cast<std::int64_t>(at::elementSize(model_.compute_dtype));
  input.shape = model_.model->shape();
  const LoaderOptions options = loader_options();
  input.accumulates = options.rows_per_step > options.rows_per_batch;
  for (const Batch& batch : first_batches()) {
    input.tokens = std::max(input.tokens, batch.num_tokens);
    input.rows = std::max(input.rows, model_.model->rows({batch.tensors}));
    input.label_tokens = std::max(input.label_tokens, batch.num_label_tokens);
  }
  return plan_memory(input);
}

StepEstimate TrainingRun::estimate(const std::function<void()>& before_second) {
  DataLoader loader(data_.training, loader_options());
  train_step(parts(), loader.next(), 1);
  StepEstimate estimate;
  estimate.parameter_bytes = parameter_bytes(*model_.model);
  for (const auto& parameter : model_.model->parts().added_parameters)
    estimate.parameter_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  for (const auto& parameter : optimizer_->parameters())
    estimate.gradient_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  estimate.optimizer_bytes = optimizer_->state_bytes();
  const StepBatches batches = loader.next();
  estimate.micro_batches = static_cast<std::int64_t>(batches.batches.size());
  before_second();
  CachingAllocator& allocator = CachingAllocator::instance();
  allocator.reset_peaks();
  const auto start = std::chrono::steady_clock::now();
  const MemoryMeter meter;
  train_step(parts(), batches, 2);
  estimate.step_peak_bytes = meter.peak();
  estimate.step_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (CachingAllocator::installed()) {
    const MemoryUse use = allocator.use();
    estimate.activation_bytes = use.peak[static_cast<std::size_t>(MemoryPurpose::kActivations)];
    estimate.peak_bytes = use.total_peak;
  }
  return estimate;
}

}  // namespace espalier
