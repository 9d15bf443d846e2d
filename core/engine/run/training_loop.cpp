// The loop over steps, with everything that happens between them.
#include <ATen/Parallel.h>

#include <chrono>
#include <filesystem>
#include <list>

#include "engine/memory/caching_allocator.h"
#include "engine/memory/memory_report.h"
#include "engine/run/device.h"
#include "engine/run/dropout_note.h"
#include "engine/run/gemm_check.h"
#include "engine/run/machine.h"
#include "engine/run/training_run.h"
#include "engine/run/training_samples.h"
#include "engine/train/average_weights.h"
#include "engine/train/metric_watch.h"
#include "engine/train/metrics_log.h"
#include "engine/train/progress.h"
#include "engine/train/step_statistics.h"
#include "engine/train/stop_signal.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

bool is_due(std::int64_t step, const std::optional<std::int64_t>& every) {
  return every && step % *every == 0;
}

Value training_line(const StepMetrics& metrics, double seconds, at::Device device) {
  Table line;
  line.set("step", metrics.step);
  line.set("epoch", metrics.epoch);
  line.set("loss", metrics.loss);
  line.set("grad_norm", metrics.grad_norm);
  line.set("lr", metrics.lr);
  line.set("tokens_per_second", static_cast<double>(metrics.num_tokens) / seconds);
  line.set("num_label_tokens", metrics.num_label_tokens);
  line.set("num_tokens", metrics.num_tokens);
  line.set("num_computed_tokens", metrics.num_computed_tokens);
  line.set("rss_bytes", resident_bytes());
  line.set("peak_rss_bytes", peak_resident_bytes());
  if (const std::optional<std::int64_t> peak = peak_device_bytes(device))
    line.set("peak_device_bytes", *peak);
  if (Value memory = memory_by_purpose(); !memory.is_null()) line.set("memory_peaks", memory);
  line.set("step_seconds", seconds);
  if (metrics.terms.size() > 1) {
    Table terms;
    for (const auto& [name, value] : metrics.terms) terms.set(name, value);
    line.set("terms", std::move(terms));
  }
  return line;
}

Value validation_line(const StepMetrics& metrics, std::optional<double> ema_loss, double seconds) {
  Table line;
  line.set("step", metrics.step);
  line.set("loss", metrics.loss);
  if (ema_loss) line.set("ema_loss", *ema_loss);
  line.set("num_label_tokens", metrics.num_label_tokens);
  line.set("num_tokens", metrics.num_tokens);
  line.set("seconds", seconds);
  return line;
}

/// A validation set with its log, validation.jsonl or validation_NAME.jsonl.
struct ValidationRun {
  ValidationRun(const ValidationSet& set, const fs::path& folder, std::int64_t keep_steps,
                bool has_log)
      : name(set.name),
        source(name.empty() ? "validation" : "validation_" + name),
        dataset(set.dataset) {
    if (has_log) log.emplace((folder / (source + ".jsonl")).string(), keep_steps);
  }

  std::string name;
  std::string source;  ///< as loggers know it
  std::shared_ptr<const Dataset> dataset;
  std::optional<MetricsLog> log;  ///< of the first rank
  std::vector<Batch> batches;     ///< this rank's
};

std::string validation_note(const std::string& name, const StepMetrics& metrics, double seconds) {
  char numbers[96];
  std::snprintf(numbers, sizeof numbers,
                "after step %lld: loss %.4f over %lld label tokens (%.1f s)",
                static_cast<long long>(metrics.step), metrics.loss,
                static_cast<long long>(metrics.num_label_tokens), seconds);
  return "validation " + (name.empty() ? "" : name + " ") + numbers;
}

/// The machine must compute as it did before the stop, or the resumed run would take another path.
/// Another number of processes takes one in any case, to within rounding.
void adopt_machine(const TrainState& state, const LoadedModel& model, int world_size,
                   Progress& progress) {
  if (state.world_size == world_size && state.num_threads > 0 &&
      state.num_threads != at::get_num_threads()) {
    at::set_num_threads(static_cast<int>(state.num_threads));
  }
  const std::string provider = gemm_provider(model.device, model.compute_dtype);
  if (state.instruction_set != instruction_set() || state.gemm_provider != provider) {
    progress.note("resuming on another machine (" + state.instruction_set + ", " +
                  state.gemm_provider + " -> " + instruction_set() + ", " + provider +
                  "): results may differ in the last digits");
  }
}

/// "after step 40, at 1.2345" for messages.
std::string best_note(const MetricWatch& watch) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f after step %lld", watch.state().best,
                static_cast<long long>(watch.state().best_step));
  return text;
}

}  // namespace

class TrainingLoop {
 public:
  TrainingLoop(TrainingRun& run, const std::string& resume, bool quiet);
  int go();

 private:
  void set_up_watches();
  void resume_from(const std::string& resume);
  void adopt_state();
  void open_logs();
  void write_facts(const std::string& ended) const;

  StepMetrics make_step(std::int64_t step);
  void validate(std::int64_t step);
  std::optional<double> validate_average(const std::vector<Batch>& batches);
  void write_samples(std::int64_t step);
  void look(std::int64_t step);
  void save(bool best);
  void hold_for_checkpoint(const std::function<void()>& work);
  void log(MetricsLog& file, const std::string& source, const Value& line);
  void save_logs();
  void note_state(const StepMetrics& metrics, const LoaderState& loader);
  bool looks_at(std::int64_t step) const;
  bool wants_to_stop() const {
    return stopping_ && stopping_->state().looks_since >= run_.settings_.early_stopping.patience;
  }
  int stop_for_signal(std::int64_t step);
  int finish();

  TrainingRun& run_;
  const config::StepSchedulerConfig& schedule_;
  fs::path folder_;
  bool first_rank_;
  bool quiet_;
  CheckpointStore store_;
  std::optional<AverageWeights> average_;
  std::optional<MetricWatch> best_;
  std::optional<MetricWatch> stopping_;
  TrainingSamples samples_;
  std::int64_t first_ = 0;   ///< steps that were made before
  TrainState state_;         ///< after the last step
  double held_seconds_ = 0;  ///< by checkpoints, since the last line of the log
  std::optional<Progress> progress_;
  std::optional<MetricsLog> training_log_;  ///< these of the first rank
  std::optional<MetricsLog> samples_log_;
  std::optional<MetricsLog> statistics_log_;
  LatestLines latest_;
  std::list<ValidationRun> validation_;
  std::unique_ptr<DataLoader> loader_;
};

TrainingLoop::TrainingLoop(TrainingRun& run, const std::string& resume, bool quiet)
    : run_(run),
      schedule_(run.settings_.step_scheduler),
      folder_(run.output_dir_),
      first_rank_(run.ranks_.is_first()),
      quiet_(quiet || !first_rank_),
      store_((folder_ / "checkpoints").string(), run.settings_.checkpoint.max_recent_checkpoints,
             run.ranks_, run.strategy_.get()),
      samples_(run.settings_.generation_samples, run.data_, run.model_) {
  set_up_watches();
  if (run_.settings_.checkpoint.is_async) store_.write_in_background();
  if (const double decay = run_.settings_.ema.decay; decay > 0) {
    average_.emplace(run_.optimizer_->parameters(), decay);
    store_.keep_average(&*average_);
  }
  if (!samples_.empty()) {
    if (run_.data_.validation.empty()) {
      throw_bad_input("samples are written at validations, and there are none", {},
                      "a section [validation_dataset]", "[generation_samples]");
    }
    run_.ranks_.on_all("trying out the generation of samples", [&] { samples_.try_out(); });
  }
  resume_from(resume);
  progress_.emplace(run_.total_steps_, first_, quiet_);
  adopt_state();
  open_logs();
  loader_ = std::make_unique<DataLoader>(run_.data_.training, run_.loader_options(), state_.loader);
}

void TrainingLoop::set_up_watches() {
  const config::CheckpointConfig& checkpoint = run_.settings_.checkpoint;
  const config::EarlyStoppingConfig& stopping = run_.settings_.early_stopping;
  std::vector<std::string> sources = {"training"};
  for (const ValidationSet& set : run_.data_.validation)
    sources.push_back(set.name.empty() ? "validation" : "validation_" + set.name);
  if (!checkpoint.best_metric.empty()) {
    best_.emplace(checkpoint.best_metric, checkpoint.best_mode, 0.0, "[checkpoint] best_metric");
    best_->check_source(sources);
    if (!checkpoint.enabled)
      throw_bad_input("a best checkpoint is wanted and checkpoints are off", {},
                      "checkpoint.enabled = true", "[checkpoint] best_metric");
  }
  if (stopping.patience > 0) {
    stopping_.emplace(stopping.metric, stopping.mode, stopping.min_delta,
                      "[early_stopping] metric");
    stopping_->check_source(sources);
    const bool validates = !run_.data_.validation.empty();
    if (!(validates ? schedule_.val_every_steps : schedule_.ckpt_every_steps)) {
      throw_bad_input("early stopping has nothing to look at before the last step", {},
                      validates ? "step_scheduler.val_every_steps"
                                : "a [validation_dataset] with step_scheduler.val_every_steps, or "
                                  "step_scheduler.ckpt_every_steps",
                      "[early_stopping]");
    }
  }
}

void TrainingLoop::resume_from(const std::string& resume) {
  // Rank 0 tidies up; the others then see the same folder.
  run_.ranks_.on_first("looking for checkpoints", [&] { store_.tidy(); });
  const std::optional<std::string> newest = store_.newest();
  const auto remove_after = [&](std::int64_t step, std::int64_t best_step) {
    run_.ranks_.on_first("removing checkpoints", [&] {
      store_.remove_after(step);
      store_.restore_best(best_step);
    });
  };
  if (resume == "never") {
    remove_after(0, -1);
    return;
  }
  if (resume != "auto" && !fs::exists(fs::path(resume) / "state.json")) {
    throw_bad_input("there is no checkpoint in '" + resume + "'", {},
                    "auto, never, or a checkpoint folder", "--resume");
  }
  const std::string chosen = resume == "auto" ? newest.value_or("") : resume;
  if (chosen.empty()) return;
  ParameterOptimizer& optimizer = *run_.optimizer_;
  state_ = store_.load(chosen, optimizer, optimizer.parameters());
  first_ = state_.step;
  if (run_.strategy_ != nullptr) run_.strategy_->parameters_changed();
  remove_after(first_, state_.best.best_step);
}

void TrainingLoop::adopt_state() {
  if (const std::string note = dropout_note(run_.model_.config); !note.empty())
    progress_->note(note);
  if (first_ > 0) {
    adopt_machine(state_, run_.model_, run_.world_.size(), *progress_);
    progress_->note("resuming after step " + std::to_string(first_) + " of " +
                    std::to_string(run_.total_steps_));
  }
  if (best_) best_->set_state(state_.best);
  if (stopping_) stopping_->set_state(state_.stopping);
}

void TrainingLoop::open_logs() {
  if (first_rank_) {
    training_log_.emplace((folder_ / "training.jsonl").string(), first_);
    latest_["training"] = training_log_->last_line();
  }
  const std::int64_t keep = first_ == 0 ? -1 : first_;  // a validation at the start is step 0
  for (const ValidationSet& set : run_.data_.validation) {
    const ValidationRun& validation = validation_.emplace_back(set, folder_, keep, first_rank_);
    if (validation.log) latest_[validation.source] = validation.log->last_line();
  }
  if (first_rank_ && !samples_.empty())
    samples_log_.emplace((folder_ / "samples.jsonl").string(), keep);
  if (first_rank_ && run_.settings_.statistics.every > 0)
    statistics_log_.emplace((folder_ / "statistics.jsonl").string(), first_);
  if (!first_rank_) run_.loggers_.clear();
  for (const auto& logger : run_.loggers_) logger->start({run_.output_dir_, first_, run_.recipe_});
}

/// run.json: what a report wants to know and no other file says.
void TrainingLoop::write_facts(const std::string& ended) const {
  run_.ranks_.on_first("writing run.json", [&] {
    std::int64_t trained = 0;
    for (const auto& parameter : run_.optimizer_->parameters()) {
      std::int64_t count = 1;
      for (const std::int64_t size : parameter->spec().shape()) count *= size;
      trained += count;
    }
    Table facts;
    facts.set("total_steps", run_.total_steps_);
    facts.set("trained_parameters", trained);
    facts.set("device", run_.model_.device.str());
    facts.set("world_size", run_.world_.size());
    facts.set("num_threads", at::get_num_threads());
    facts.set("gemm_provider", gemm_provider(run_.model_.device, run_.model_.compute_dtype));
    facts.set("instruction_set", instruction_set());
    if (!ended.empty()) facts.set("ended", ended);
    write_file_atomically((folder_ / "run.json").string(), dump_json(Value(facts), 2) + "\n");
  });
}

void TrainingLoop::log(MetricsLog& file, const std::string& source, const Value& line) {
  file.append(line);
  latest_[source] = line;
  for (const auto& logger : run_.loggers_) logger->log(source, file.last_step(), line);
}

void TrainingLoop::note_state(const StepMetrics& metrics, const LoaderState& loader) {
  state_.step = metrics.step;
  state_.epoch = metrics.epoch;
  state_.total_steps = run_.total_steps_;
  state_.seed = static_cast<std::uint64_t>(run_.settings_.run.seed);
  state_.loader = loader;
  state_.world_size = run_.world_.size();
  state_.num_threads = at::get_num_threads();
  state_.gemm_provider = gemm_provider(run_.model_.device, run_.model_.compute_dtype);
  state_.instruction_set = instruction_set();
}

StepMetrics TrainingLoop::make_step(std::int64_t step) {
  const auto start = steady_clock::now();
  run_.world_.begin_step(step);
  const StepBatches batches = loader_->next();
  TrainingParts parts = run_.parts();
  std::optional<StepStatistics> statistics;
  const config::StatisticsConfig& wanted = run_.settings_.statistics;
  if (wanted.every > 0 && step % wanted.every == 0) {
    statistics.emplace(*run_.model_.model, run_.world_, run_.strategy_.get(), wanted.activations);
  }
  parts.on_gradients = [&] {
    if (statistics) statistics->take_gradients(run_.optimizer_->parameters());
    if (store_.is_busy()) hold_for_checkpoint([&] { store_.wait_for_snapshot(); });
  };
  CachingAllocator::instance().reset_peaks();
  StepMetrics metrics = train_step(parts, batches, step);
  if (average_) average_->update();
  const double seconds = seconds_since(start);
  if (training_log_) {
    Value line = training_line(metrics, seconds, run_.model_.device);
    if (held_seconds_ > 0) line.as_table().set("checkpoint_seconds", held_seconds_);
    log(*training_log_, "training", line);
  }
  held_seconds_ = 0;
  if (statistics) {
    Table line;
    line.set("step", step);
    for (auto& [key, value] : statistics->result()) line.set(key, value);
    if (statistics_log_) statistics_log_->append(Value(std::move(line)));
  }
  progress_->step(metrics, seconds,
                  peak_device_bytes(run_.model_.device).value_or(resident_bytes()));
  note_state(metrics, batches.after);
  return metrics;
}

std::optional<double> TrainingLoop::validate_average(const std::vector<Batch>& batches) {
  if (!average_ || !run_.settings_.ema.validate) return std::nullopt;
  store_.wait_for_snapshot();  // of the weights, whose place the averages take
  const AverageInPlace in_place(*average_, run_.strategy_.get());
  return evaluate(run_.parts(), batches).loss;
}

/// Everything that training waits for because of a checkpoint.
void TrainingLoop::hold_for_checkpoint(const std::function<void()>& work) {
  const auto start = steady_clock::now();
  work();
  held_seconds_ += seconds_since(start);
}

void TrainingLoop::save(bool best) {
  save_logs();
  run_.at_eval_point([&] {
    hold_for_checkpoint([&] {
      const ParameterOptimizer& optimizer = *run_.optimizer_;
      if (best)
        store_.save_best(state_, optimizer, optimizer.parameters());
      else
        store_.save(state_, optimizer, optimizer.parameters());
      if (optimizer.has_eval_point()) store_.wait_for_snapshot();
    });
  });
}

void TrainingLoop::validate(std::int64_t step) {
  for (ValidationRun& set : validation_) {
    // The first rank alone knows what is in the log.
    if (!run_.ranks_.any(set.log && set.log->last_step() < step)) continue;
    const auto start = steady_clock::now();
    // Made when it is first wanted, so that the first step does not wait for it.
    if (set.batches.empty()) set.batches = batches_in_order(*set.dataset, run_.loader_options());
    StepMetrics metrics;
    run_.at_eval_point([&] { metrics = evaluate(run_.parts(), set.batches); });
    metrics.step = step;
    const std::optional<double> ema_loss = validate_average(set.batches);
    if (set.log)
      log(*set.log, set.source, validation_line(metrics, ema_loss, seconds_since(start)));
    progress_->note(validation_note(set.name, metrics, seconds_since(start)));
  }
  write_samples(step);
}

void TrainingLoop::write_samples(std::int64_t step) {
  if (samples_.empty()) return;
  if (!run_.ranks_.any(samples_log_ && samples_log_->last_step() < step)) return;
  // By all ranks: each may hold a part of the weights.
  Value line;
  run_.at_eval_point([&] { line = samples_.write(step); });
  if (!samples_log_) return;
  samples_log_->append(line);
  const Array& samples = line.find("samples")->as_array();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    for (const auto& logger : run_.loggers_)
      logger->log_text("sample_" + std::to_string(i + 1), step,
                       samples[i].find("answer")->as_string());
  }
}

void TrainingLoop::save_logs() {
  run_.ranks_.on_first("saving the logs", [&] {
    training_log_->sync();
    for (ValidationRun& set : validation_) set.log->sync();
    if (samples_log_) samples_log_->sync();
    if (statistics_log_) statistics_log_->sync();
    for (const auto& logger : run_.loggers_) logger->flush();
  });
}

/// Steps after which best checkpoint and early stopping look at the logs: those with a validation,
/// and without any those with a checkpoint.
bool TrainingLoop::looks_at(std::int64_t step) const {
  return step == run_.total_steps_ ||
         is_due(step, run_.data_.validation.empty() ? schedule_.ckpt_every_steps
                                                    : schedule_.val_every_steps);
}

void TrainingLoop::look(std::int64_t step) {
  if (!looks_at(step)) return;
  bool better = false;
  // The first rank alone has the lines; the others follow it.
  run_.ranks_.on_first("looking at the metrics", [&] {
    if (best_ && best_->state().looked_at < step) better = best_->look(step, latest_);
    if (stopping_ && stopping_->state().looked_at < step) stopping_->look(step, latest_);
  });
  if (best_) state_.best = best_->state();
  if (stopping_) state_.stopping = stopping_->state();
  if (!run_.ranks_.any(better)) return;
  save(/*best=*/true);
  progress_->note("best " + best_->metric() + " so far: " + best_note(*best_));
}

int TrainingLoop::stop_for_signal(std::int64_t step) {
  store_.finish();
  for (const auto& logger : run_.loggers_) logger->flush();
  progress_->finish();
  progress_->note("stopped after step " + std::to_string(step) +
                  (run_.settings_.checkpoint.enabled
                       ? "; run the same command again to go on"
                       : "; checkpoints are off, so nothing was saved"));
  return kStoppedExitCode;
}

int TrainingLoop::finish() {
  store_.finish();
  for (const auto& logger : run_.loggers_) logger->flush();
  progress_->finish();
  const std::string final_folder = (folder_ / "final").string();
  run_.at_eval_point([&] { run_.export_result(final_folder); });
  std::string notes = "run folder  " + folder_.string() + "\n" +
                      (run_.model_.adapter != nullptr ? "adapter     " : "model       ") +
                      final_folder;
  if (average_ && run_.settings_.ema.export_final) {
    const AverageInPlace in_place(*average_, run_.strategy_.get());
    run_.export_result((folder_ / "final_ema").string());
    notes += "\naverage     " + (folder_ / "final_ema").string();
  }
  if (best_ && best_->state().best_step >= 0)
    notes += "\nbest        " + (folder_ / "checkpoints" / "best").string() + " (" +
             best_->metric() + " " + best_note(*best_) + ")";
  write_facts(state_.step < run_.total_steps_
                  ? "stopped early after step " + std::to_string(state_.step)
                  : "complete");
  progress_->note(notes);
  return 0;
}

int TrainingLoop::go() {
  const StopSignal stop_signal;
  write_facts({});
  if (first_ == 0 && schedule_.val_at_start) validate(0);
  // A run that a signal stopped saved its checkpoint at once, before the validation that was due.
  if (first_ > 0 && is_due(first_, schedule_.val_every_steps)) validate(first_);
  if (first_ > 0) look(first_);
  bool early = run_.ranks_.any(wants_to_stop());
  for (std::int64_t step = first_ + 1; step <= run_.total_steps_ && !early; ++step) {
    make_step(step);
    if (store_.is_busy()) hold_for_checkpoint([&] { store_.advance(); });
    const bool last = step == run_.total_steps_;
    const bool stopped = run_.ranks_.any(StopSignal::received() != 0) && !last;
    if (!stopped && (last || is_due(step, schedule_.val_every_steps))) validate(step);
    if (!stopped) look(step);
    early = !stopped && !last && stopping_ && run_.ranks_.any(wants_to_stop());
    const bool due = last || stopped || early || is_due(step, schedule_.ckpt_every_steps);
    if (run_.settings_.checkpoint.enabled && due) save(/*best=*/false);
    if (stopped) return stop_for_signal(step);
  }
  if (early) {
    progress_->finish();
    progress_->note("stopped early after step " + std::to_string(state_.step) + ": the best " +
                    stopping_->metric() + " was " + best_note(*stopping_));
  }
  return finish();
}

int TrainingRun::train(const std::string& resume, bool quiet) {
  return TrainingLoop(*this, resume, quiet).go();
}

}  // namespace espalier
