// TrainingRun::train: the loop over steps, with everything that happens between them.
#include <ATen/Parallel.h>

#include <chrono>
#include <filesystem>
#include <list>

#include "engine/run/device.h"
#include "engine/run/dropout_note.h"
#include "engine/run/machine.h"
#include "engine/run/training_run.h"
#include "engine/train/metrics_log.h"
#include "engine/train/progress.h"
#include "engine/train/stop_signal.h"
#include "espalier/base/error.h"

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
  line.set("rss_bytes", resident_bytes());
  line.set("peak_rss_bytes", peak_resident_bytes());
  if (const std::optional<std::int64_t> peak = peak_device_bytes(device))
    line.set("peak_device_bytes", *peak);
  line.set("step_seconds", seconds);
  if (metrics.terms.size() > 1) {
    Table terms;
    for (const auto& [name, value] : metrics.terms) terms.set(name, value);
    line.set("terms", std::move(terms));
  }
  return line;
}

Value validation_line(const StepMetrics& metrics, double seconds) {
  Table line;
  line.set("step", metrics.step);
  line.set("loss", metrics.loss);
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
void adopt_machine(const TrainState& state, int world_size, Progress& progress) {
  if (state.world_size == world_size && state.num_threads > 0 &&
      state.num_threads != at::get_num_threads()) {
    at::set_num_threads(static_cast<int>(state.num_threads));
  }
  if (state.instruction_set != instruction_set() || state.gemm_provider != gemm_provider()) {
    progress.note("resuming on another machine (" + state.instruction_set + ", " +
                  state.gemm_provider + " -> " + instruction_set() + ", " + gemm_provider() +
                  "): results may differ in the last digits");
  }
}

}  // namespace

TrainState TrainingRun::state_at(const StepMetrics& metrics, const LoaderState& loader) const {
  TrainState state;
  state.step = metrics.step;
  state.epoch = metrics.epoch;
  state.total_steps = total_steps_;
  state.seed = static_cast<std::uint64_t>(settings_.run.seed);
  state.loader = loader;
  state.world_size = world_.size();
  state.num_threads = at::get_num_threads();
  state.gemm_provider = gemm_provider();
  state.instruction_set = instruction_set();
  return state;
}

std::optional<TrainState> TrainingRun::resume_from(const std::string& resume,
                                                   CheckpointStore& store) {
  // Rank 0 tidies up; the others then see the same folder.
  ranks_.on_first("looking for checkpoints", [&] { store.tidy(); });
  const std::optional<std::string> newest = store.newest();
  if (resume == "never") {
    ranks_.on_first("removing checkpoints", [&] { store.remove_after(0); });
    return std::nullopt;
  }
  if (resume != "auto" && !fs::exists(fs::path(resume) / "state.json")) {
    throw_bad_input("there is no checkpoint in '" + resume + "'", {},
                    "auto, never, or a checkpoint folder", "--resume");
  }
  const std::string chosen = resume == "auto" ? newest.value_or("") : resume;
  if (chosen.empty()) return std::nullopt;
  const TrainState state = store.load(chosen, *optimizer_, optimizer_->parameters());
  if (strategy_ != nullptr) strategy_->parameters_changed();
  ranks_.on_first("removing checkpoints", [&] { store.remove_after(state.step); });
  return state;
}

int TrainingRun::train(const std::string& resume, bool quiet) {
  const fs::path folder(output_dir_);
  CheckpointStore store((folder / "checkpoints").string(),
                        settings_.checkpoint.max_recent_checkpoints, ranks_, strategy_.get());
  const std::optional<TrainState> resumed = resume_from(resume, store);
  const std::int64_t first = resumed ? resumed->step : 0;
  const bool first_rank = ranks_.is_first();
  Progress progress(total_steps_, first, quiet || !first_rank);
  if (const std::string note = dropout_note(model_.config); !note.empty()) progress.note(note);
  if (resumed) {
    adopt_machine(*resumed, world_.size(), progress);
    progress.note("resuming after step " + std::to_string(first) + " of " +
                  std::to_string(total_steps_));
  }
  std::optional<MetricsLog> training_log;
  if (first_rank) training_log.emplace((folder / "training.jsonl").string(), first);
  std::list<ValidationRun> validation;
  for (const ValidationSet& set : data_.validation)
    validation.emplace_back(set, folder, first == 0 ? -1 : first, first_rank);
  DataLoader loader(data_.training, loader_options(), resumed ? resumed->loader : LoaderState{});
  const StopSignal stop_signal;
  if (!first_rank) loggers_.clear();
  for (const auto& logger : loggers_) logger->start({output_dir_, first, recipe_});
  const auto log = [&](MetricsLog& file, const std::string& source, const Value& line) {
    file.append(line);
    for (const auto& logger : loggers_) logger->log(source, file.last_step(), line);
  };

  const auto validate = [&](std::int64_t step) {
    for (ValidationRun& set : validation) {
      // The first rank alone knows what is in the log.
      if (!ranks_.any(set.log && set.log->last_step() < step)) continue;
      const auto start = steady_clock::now();
      // Made when it is first wanted, so that the first step does not wait for it.
      if (set.batches.empty()) set.batches = batches_in_order(*set.dataset, loader_options());
      StepMetrics metrics;
      at_eval_point([&] { metrics = evaluate(parts(), set.batches); });
      metrics.step = step;
      if (set.log) log(*set.log, set.source, validation_line(metrics, seconds_since(start)));
      progress.note(validation_note(set.name, metrics, seconds_since(start)));
    }
  };
  if (first == 0 && settings_.step_scheduler.val_at_start) validate(0);
  // A run that a signal stopped saved its checkpoint at once, before the validation that was due.
  if (first > 0 && is_due(first, settings_.step_scheduler.val_every_steps)) validate(first);

  for (std::int64_t step = first + 1; step <= total_steps_; ++step) {
    const auto start = steady_clock::now();
    world_.begin_step(step);
    const StepBatches batches = loader.next();
    const StepMetrics metrics = train_step(parts(), batches, step);
    const double seconds = seconds_since(start);
    if (training_log)
      log(*training_log, "training", training_line(metrics, seconds, model_.device));
    progress.step(metrics, seconds, peak_device_bytes(model_.device).value_or(resident_bytes()));

    const bool last = step == total_steps_;
    const bool stopped = ranks_.any(StopSignal::received() != 0) && !last;
    if (!stopped && (last || is_due(step, settings_.step_scheduler.val_every_steps)))
      validate(step);
    const bool save = last || stopped || is_due(step, settings_.step_scheduler.ckpt_every_steps);
    if (settings_.checkpoint.enabled && save) {
      ranks_.on_first("saving the logs", [&] {
        training_log->sync();
        for (ValidationRun& set : validation) set.log->sync();
        for (const auto& logger : loggers_) logger->flush();
      });
      at_eval_point([&] {
        store.save(state_at(metrics, batches.after), *optimizer_, optimizer_->parameters());
      });
    }
    if (stopped) {
      for (const auto& logger : loggers_) logger->flush();
      progress.finish();
      progress.note(settings_.checkpoint.enabled
                        ? "stopped after step " + std::to_string(step) +
                              "; run the same command again to go on"
                        : "stopped after step " + std::to_string(step) +
                              "; checkpoints are off, so nothing was saved");
      return kStoppedExitCode;
    }
  }
  for (const auto& logger : loggers_) logger->flush();
  progress.finish();
  const std::string final_folder = (folder / "final").string();
  at_eval_point([&] { export_result(final_folder); });
  progress.note("run folder  " + folder.string() + "\n" +
                (model_.adapter != nullptr ? "adapter     " : "model       ") + final_folder);
  return 0;
}

}  // namespace espalier
