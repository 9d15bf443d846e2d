#include "engine/run/training_run.h"

#include <algorithm>
#include <filesystem>

#include "engine/checkpoint/export.h"
#include "engine/data/collate.h"
#include "engine/parallel/memory_meter.h"
#include "engine/parallel/value_gatherer.h"
#include "engine/run/freezing.h"
#include "espalier/base/error.h"
#include "espalier/data/sample_length.h"
#include "espalier/ops/op.h"
#include "text/chat_template_loader.h"
#include "text/tokenizer_loader.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPlannedRows = 256;  // rows looked at for the memory plan

template <class Config>
Config section(const Value& recipe, const char* name) {
  const Value* found = recipe.find(name);
  return Config::schema().parse(found == nullptr ? Value(Table()) : *found, name);
}

config::RunConfig run_section(const Value& recipe) {
  Table keys;
  const ConfigSchema<config::RunConfig> schema = config::RunConfig::schema();
  for (const FieldSpec& field : schema.spec().fields) {
    if (const Value* value = recipe.find(field.name)) keys.set(field.name, *value);
  }
  return schema.parse(keys);
}

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

}  // namespace

RunSettings::RunSettings(const Value& recipe)
    : run(run_section(recipe)),
      model(section<config::ModelConfig>(recipe, "model")),
      teacher_model(section<config::TeacherModelConfig>(recipe, "teacher_model")),
      freeze(section<config::FreezeConfig>(recipe, "freeze_config")),
      dataloader(section<config::DataloaderConfig>(recipe, "dataloader")),
      packed_sequence(section<config::PackedSequenceConfig>(recipe, "packed_sequence")),
      step_scheduler(section<config::StepSchedulerConfig>(recipe, "step_scheduler")),
      clip_grad_norm(section<config::ClipGradNormConfig>(recipe, "clip_grad_norm")),
      checkpoint(section<config::CheckpointConfig>(recipe, "checkpoint")) {}

namespace {

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

TrainingRun::TrainingRun(const EngineCall& call, World& world)
    : world_(world),
      ranks_(world),
      settings_(call.option("recipe")),
      output_dir_(settings_.run.output_dir) {
  const std::string folder = call.text("model");
  if (fs::exists(fs::path(folder) / "tokenizer.json")) {
    tokenizer_ = text::load_tokenizer(folder);
    chat_template_ = text::load_chat_template(folder);
  }
  // Data first: most mistakes are in it, and it is read in a moment.
  dataset_ = open_dataset(call, "dataset");
  if (call.request.components.contains("validation_dataset")) {
    validation_dataset_ = open_dataset(call, "validation_dataset");
  }
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
  set_up_strategy(call);
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
    total_steps_ =
        steps.num_epochs.value_or(1) * DataLoader(dataset_, loader_options()).steps_per_epoch();
  }
  if (steps.max_steps)
    total_steps_ = total_steps_ == 0 ? *steps.max_steps : std::min(total_steps_, *steps.max_steps);
}

void TrainingRun::set_up_strategy(const EngineCall& call) {
  if (!call.request.components.contains("distributed")) {
    if (world_.size() == 1) return;
    throw_bad_input("several processes train without a strategy", std::to_string(world_.size()),
                    "a section [distributed]", "the recipe",
                    "type = \"...\" there; espalier plugins list shows the strategies");
  }
  strategy_ = call.create<ParallelStrategy>("distributed");
  strategy_->set_up(world_);
  ProblemList problems;
  strategy_->check(*model_.model, problems);
  problems.throw_if_any();
  strategy_->apply(*model_.model);
}

DatasetContext TrainingRun::dataset_context() const {
  DatasetContext context;
  context.tokenizer = tokenizer_;
  context.chat_template = chat_template_;
  context.seed = static_cast<std::uint64_t>(settings_.run.seed);
  context.max_length = settings_.packed_sequence.packed_sequence_size;
  return context;
}

std::shared_ptr<const Dataset> TrainingRun::open_dataset(const EngineCall& call,
                                                         const std::string& section) const {
  std::shared_ptr<Dataset> dataset = call.create<Dataset>(section);
  DatasetContext context = dataset_context();
  context.model_folder = call.text("model");
  dataset->open(context);
  if (dataset->size() <= 0)
    throw_bad_input("the dataset has no samples", "0", "at least one", "[" + section + "]");
  return dataset;
}

LoaderOptions TrainingRun::loader_options() const {
  LoaderOptions options;
  options.shuffle = settings_.dataloader.shuffle;
  options.seed = static_cast<std::uint64_t>(settings_.run.seed);
  options.rows_per_step = settings_.step_scheduler.global_batch_size;
  options.rows_per_batch =
      std::min(settings_.step_scheduler.local_batch_size, options.rows_per_step);
  options.packed_sequence_size = settings_.packed_sequence.packed_sequence_size;
  if (strategy_ != nullptr) {
    options.share_index = strategy_->data_share().index;
    options.share_count = strategy_->data_share().count;
  }
  options.drop_last = settings_.dataloader.drop_last;
  options.workers = std::max<std::int64_t>(1, settings_.dataloader.num_workers);
  options.prefetch_samples =
      settings_.dataloader.prefetch_factor * options.rows_per_step * options.workers;
  options.max_length = options.packed_sequence_size > 0
                           ? options.packed_sequence_size
                           : (model_.model ? model_.model->shape().max_positions : 0);
  if (tokenizer_ != nullptr)
    options.collate.pad_id = static_cast<std::int32_t>(padding_id(*tokenizer_));
  options.collate.pad_seq_len_divisible = settings_.dataloader.pad_seq_len_divisible;
  return options;
}

/// Every `share_count`th batch of the data, and fillers where there is none left for this rank.
std::vector<Batch> TrainingRun::validation_batches() const {
  const LoaderOptions options = loader_options();
  const std::int64_t rows = validation_dataset_->size();
  const std::int64_t batches = (rows + options.rows_per_batch - 1) / options.rows_per_batch;
  std::vector<Batch> own;
  for (std::int64_t number = options.share_index; number < batches + options.share_index;
       number += options.share_count) {
    const bool filler = number >= batches;
    const std::int64_t begin = filler ? 0 : number * options.rows_per_batch;
    std::vector<Row> part;
    for (std::int64_t i = begin; i < std::min(begin + (filler ? 1 : options.rows_per_batch), rows);
         ++i) {
      Sample sample = validation_dataset_->get(i);
      check_and_cut(sample, i, options.max_length);
      part.push_back({std::move(sample)});
    }
    own.push_back(collate(part, options.collate));
    own.back().filler = filler;
  }
  return own;
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

/// OUTPUT_DIR/final, written by rank 0; the others hand over what they hold.
void TrainingRun::export_result(const std::string& folder) {
  if (model_.adapter != nullptr) {
    ranks_.on_first("exporting the adapter", [&] { export_adapter(model_, folder, base_name()); });
    return;
  }
  if (world_.size() == 1) {
    export_model(model_, folder);
    return;
  }
  ValueGatherer gatherer(world_, *strategy_, model_.model->parts().parameters);
  ranks_.on_all("exporting the model", [&] {
    if (!ranks_.is_first()) {
      gatherer.serve();
      return;
    }
    std::exception_ptr failure;
    try {
      export_model(model_, folder, [&](std::size_t index) { return gatherer.value(index); });
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
  options.rows_per_step = std::max(kPlannedRows, options.rows_per_batch);
  options.prefetch_samples = options.rows_per_step;
  for (const Batch& batch : DataLoader(dataset_, options).next().batches) {
    input.tokens = std::max(input.tokens, batch.num_tokens);
    input.label_tokens = std::max(input.label_tokens, batch.num_label_tokens);
  }
  return plan_memory(input);
}

StepEstimate TrainingRun::estimate(const std::function<void()>& before_second) {
  DataLoader loader(dataset_, loader_options());
  train_step(parts(), loader.next(), 1);
  before_second();
  StepEstimate estimate;
  for (const auto& parameter : model_.model->parts().parameters)
    estimate.parameter_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  for (const auto& parameter : model_.model->parts().added_parameters)
    estimate.parameter_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  for (const auto& parameter : optimizer_->parameters())
    estimate.gradient_bytes += static_cast<std::int64_t>(parameter->value().nbytes());
  estimate.optimizer_bytes = optimizer_->state_bytes();
  const StepBatches batches = loader.next();
  estimate.micro_batches = static_cast<std::int64_t>(batches.batches.size());
  const MemoryMeter meter;
  train_step(parts(), batches, 2);
  estimate.step_peak_bytes = meter.peak();
  return estimate;
}

}  // namespace espalier
