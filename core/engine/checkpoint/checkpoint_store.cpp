#include "engine/checkpoint/checkpoint_store.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>

#include "engine/parallel/shard_pieces.h"
#include "engine/train/non_finite.h"
#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kFormatVersion = 1;
constexpr const char* kSavingPrefix = ".saving-";
constexpr const char* kRemovingPrefix = ".removing-";

std::string numbered(const char* kind, std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "%s-%08lld", kind, static_cast<long long>(step));
  return name;
}

std::string name_of_step(std::int64_t step) { return numbered("step", step); }
std::string name_of_best(std::int64_t step) { return numbered("best", step); }

void rename_or_throw(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw_io("rename", from.string(), errno);
}

void make_folder(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) throw_io("create", folder.string(), failure.value());
}

std::int64_t int_of(const Value& value, const char* key) {
  const Value* found = value.find(key);
  if (found == nullptr)
    throw_bad_input("the checkpoint's state has no '" + std::string(key) + "'", {}, "an integer",
                    value.position().to_string());
  return found->as_int();
}

std::string text_of(const Value& value, const char* key) {
  const Value* found = value.find(key);
  return found == nullptr ? std::string() : found->as_string();
}

std::string rank_file(int rank, int world) {
  char name[64];
  std::snprintf(name, sizeof name, "rank-%05d-of-%05d.safetensors", rank, world);
  return name;
}

constexpr const char* kWhat = "saving a checkpoint";

void require_finite_weights(const std::vector<std::shared_ptr<Parameter>>& parameters,
                            std::int64_t step) {
  const std::optional<std::string> bad = parameter_that_is_not_finite(parameters);
  if (!bad) return;
  throw Error(Problem{
      ErrorCode::kCheckFailed, "the weights after step " + std::to_string(step) + " are not finite",
      *bad, "finite numbers", "step " + std::to_string(step),
      "no checkpoint was written, and the newest is from before: run the same command again to go "
      "on from it, with a lower lr or clip_grad_norm.max_norm"});
}

}  // namespace

Value TrainState::to_value() const {
  Table table;
  table.set("format_version", kFormatVersion);
  table.set("step", step);
  table.set("epoch", epoch);
  table.set("total_steps", total_steps);
  table.set("seed", static_cast<std::int64_t>(seed));
  table.set("next_sample", loader.next_sample);
  table.set("next_row", loader.next_row);
  table.set("world_size", world_size);
  table.set("num_threads", num_threads);
  table.set("gemm_provider", gemm_provider);
  table.set("instruction_set", instruction_set);
  if (best.looked_at >= 0) table.set("best", best.to_value());
  if (stopping.looked_at >= 0) table.set("early_stopping", stopping.to_value());
  return table;
}

TrainState TrainState::from_value(const Value& value) {
  if (int_of(value, "format_version") != kFormatVersion) {
    throw_bad_input("the checkpoint was written by another version of Espalier",
                    "format " + std::to_string(int_of(value, "format_version")),
                    "format " + std::to_string(kFormatVersion), value.position().to_string());
  }
  TrainState state;
  state.step = int_of(value, "step");
  state.epoch = int_of(value, "epoch");
  state.total_steps = int_of(value, "total_steps");
  state.seed = static_cast<std::uint64_t>(int_of(value, "seed"));
  state.loader.next_sample = int_of(value, "next_sample");
  if (value.find("next_row") != nullptr) state.loader.next_row = int_of(value, "next_row");
  if (const Value* size = value.find("world_size")) state.world_size = size->as_int();
  state.num_threads = int_of(value, "num_threads");
  state.gemm_provider = text_of(value, "gemm_provider");
  state.instruction_set = text_of(value, "instruction_set");
  if (const Value* best = value.find("best")) state.best = WatchState::from_value(*best);
  if (const Value* stopping = value.find("early_stopping"))
    state.stopping = WatchState::from_value(*stopping);
  return state;
}

struct CheckpointStore::Save {
  std::string name;
  std::string saving;  ///< where it is written, beside its place
  TrainState state;
  std::function<void()> after;  ///< by rank 0, once it is there
  std::optional<CheckpointPart> part;
  bool committing = false;  ///< all ranks have written
};

CheckpointStore::CheckpointStore(std::string folder, std::int64_t keep, RankAgreement ranks,
                                 const ParallelStrategy* strategy)
    : folder_(std::move(folder)), keep_(keep), ranks_(ranks), strategy_(strategy) {}

CheckpointStore::~CheckpointStore() {
  if (pending_ != nullptr) give_up();
}

ParameterLayout CheckpointStore::layout(const Parameter& parameter) const {
  return strategy_ == nullptr ? whole_layout(parameter, true) : strategy_->layout(parameter);
}

ParameterLayout CheckpointStore::layout(const ParameterOptimizer::StateTensor& state) const {
  using Held = ParameterOptimizer::StateTensor::Held;
  if (state.held == Held::kLikeParameter) return layout(*state.parameter);
  const std::vector<std::int64_t> shape = state.tensor.sizes().vec();
  const std::vector<std::int64_t> zeros(shape.size(), 0);
  return {{{zeros, shape, zeros}}, state.held == Held::kHere || ranks_.is_first()};
}

std::vector<ShardedTensor> CheckpointStore::sharded_tensors(
    const ParameterOptimizer& optimizer,
    const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  std::vector<ShardedTensor> tensors;
  tensors.reserve(parameters.size());
  for (const auto& parameter : parameters) {
    tensors.push_back({kModelPrefix + parameter->name(), parameter->spec().shape(),
                       parameter->value(), layout(*parameter)});
  }
  for (const auto& state : optimizer.state_tensors()) {
    ShardedTensor& tensor = tensors.emplace_back();
    tensor.name = kOptimizerPrefix + state.name;
    tensor.local = state.tensor;
    tensor.layout = layout(state);
    tensor.shape = state.held == ParameterOptimizer::StateTensor::Held::kLikeParameter
                       ? state.parameter->spec().shape()
                       : state.tensor.sizes().vec();
  }
  for (std::size_t i = 0; average_ != nullptr && i < average_->parameters().size(); ++i) {
    const Parameter& parameter = *average_->parameters()[i];
    tensors.push_back({kAveragePrefix + parameter.name(), parameter.spec().shape(),
                       average_->averages()[i], layout(parameter)});
  }
  return tensors;
}

std::string CheckpointStore::checkpoint_id(const TrainState& state) const {
  return std::to_string(state.seed) + "-" + std::to_string(state.step) + "-" +
         fs::absolute(folder_).lexically_normal().string();
}

std::vector<CheckpointFile> CheckpointStore::files(
    const TrainState& state, const ParameterOptimizer& optimizer,
    const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  const int world = ranks_.world().size();
  if (world > 1)
    return {shards_file(rank_file(ranks_.world().rank(), world),
                        sharded_tensors(optimizer, parameters), checkpoint_id(state))};
  CheckpointFile weights{kModelFile, {}, {}};
  for (const auto& parameter : parameters)
    weights.tensors.emplace_back(parameter->name(), parameter->value());
  CheckpointFile states{kOptimizerFile, {}, {}};
  for (const auto& [name, tensor] : optimizer.state()) states.tensors.emplace_back(name, tensor);
  std::vector<CheckpointFile> files = {std::move(weights), std::move(states)};
  if (average_ == nullptr) return files;
  CheckpointFile& averages = files.emplace_back(CheckpointFile{kAverageFile, {}, {}});
  for (std::size_t i = 0; i < average_->parameters().size(); ++i)
    averages.tensors.emplace_back(average_->parameters()[i]->name(), average_->averages()[i]);
  return files;
}

/// What makes a whole of the parts: manifest, state, and the name under which it is found.
void CheckpointStore::commit(const Save& save) {
  const fs::path folder(folder_);
  const int world = ranks_.world().size();
  if (world > 1) {
    std::vector<std::string> files;
    files.reserve(static_cast<std::size_t>(world));
    for (int rank = 0; rank < world; ++rank) files.push_back(rank_file(rank, world));
    write_file_atomically(
        (fs::path(save.saving) / kManifestName).string(),
        dump_json(make_manifest(save.saving, files, checkpoint_id(save.state))) + "\n");
  }
  write_file_atomically((fs::path(save.saving) / "state.json").string(),
                        dump_json(save.state.to_value(), 2) + "\n");
  sync_folder(save.saving);
  if (fs::exists(folder / save.name)) remove(save.name);
  rename_or_throw(save.saving, folder / save.name);
  sync_folder(folder_);
  save.after();
}

void CheckpointStore::start(std::unique_ptr<Save> save, const ParameterOptimizer& optimizer,
                            const std::vector<std::shared_ptr<Parameter>>& parameters) {
  finish();
  const fs::path folder(folder_);
  save->saving = (folder / (kSavingPrefix + save->name)).string();
  ranks_.on_first(kWhat, [&] {
    make_folder(save->saving);
    sync_folder(folder.parent_path().string());
  });
  pending_ = std::move(save);
  try {
    ranks_.on_all(kWhat, [&] { require_finite_weights(parameters, pending_->state.step); });
  } catch (...) {
    give_up();
    throw;
  }
  pending_->part.emplace(files(pending_->state, optimizer, parameters));
  task_.start([this] {
    if (in_background_) pending_->part->copy();
    pending_->part->write(pending_->saving);
  });
  if (!in_background_) finish();
}

void CheckpointStore::wait_for_snapshot() {
  if (pending_ != nullptr && !pending_->committing) pending_->part->wait_for_copy();
}

/// The stage that all ranks are through with; then the next begins.
void CheckpointStore::finish_stage() {
  try {
    ranks_.on_all(kWhat, [&] { task_.finish(); });
  } catch (...) {
    give_up();
    throw;
  }
  if (pending_->committing) {
    pending_.reset();
    return;
  }
  pending_->committing = true;
  pending_->part.reset();
  if (ranks_.is_first()) task_.start([this] { commit(*pending_); });
}

void CheckpointStore::advance() {
  while (pending_ != nullptr && !ranks_.any(!task_.done())) finish_stage();
}

void CheckpointStore::finish() {
  while (pending_ != nullptr) finish_stage();
}

/// Removes what was written so far.
void CheckpointStore::give_up() {
  try {
    task_.finish();
  } catch (const Error&) {
    // Another failure is the one to report.
  }
  std::error_code ignored;
  if (ranks_.is_first()) fs::remove_all(pending_->saving, ignored);
  pending_.reset();
}

void CheckpointStore::save(const TrainState& state, const ParameterOptimizer& optimizer,
                           const std::vector<std::shared_ptr<Parameter>>& parameters) {
  auto save = std::make_unique<Save>();
  save->name = name_of_step(state.step);
  save->state = state;
  saved_best_step_ = state.best.best_step;
  save->after = [this, name = save->name, best = name_of_best(saved_best_step_)] {
    point_latest_to(name);
    remove_old();
    remove_best_but({best});
  };
  start(std::move(save), optimizer, parameters);
}

void CheckpointStore::save_best(const TrainState& state, const ParameterOptimizer& optimizer,
                                const std::vector<std::shared_ptr<Parameter>>& parameters) {
  auto save = std::make_unique<Save>();
  save->name = name_of_best(state.step);
  save->state = state;
  save->after = [this, name = save->name, saved = name_of_best(saved_best_step_)] {
    point_best_to(name);
    remove_best_but({name, saved});
  };
  start(std::move(save), optimizer, parameters);
}

void CheckpointStore::restore_best(std::int64_t best_step) {
  saved_best_step_ = best_step;
  const fs::path folder(folder_);
  const std::string name = name_of_best(best_step);
  if (fs::exists(folder / name / "state.json")) {
    point_best_to(name);
  } else {
    std::error_code failure;
    fs::remove(folder / "best", failure);
    if (failure) throw_io("remove", (folder / "best").string(), failure.value());
  }
  remove_best_but({name});
}

/// A link, because that can be replaced at one stroke.
void CheckpointStore::point_best_to(const std::string& name) {
  const fs::path link = fs::path(folder_) / "best";
  const fs::path fresh = fs::path(folder_) / (std::string(kSavingPrefix) + "best");
  std::error_code failure;
  fs::remove(fresh, failure);
  fs::create_directory_symlink(name, fresh, failure);
  if (failure) throw_io("create", fresh.string(), failure.value());
  rename_or_throw(fresh, link);
  sync_folder(folder_);
}

void CheckpointStore::remove_best_but(const std::vector<std::string>& kept) {
  std::vector<std::string> doomed;
  std::error_code ignored;  // no folder: no checkpoints
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("best-") && std::find(kept.begin(), kept.end(), name) == kept.end())
      doomed.push_back(name);
  }
  for (const std::string& name : doomed) remove(name);
}

void CheckpointStore::point_latest_to(const std::string& name) {
  write_file_atomically((fs::path(folder_) / "LATEST").string(), name + "\n");
}

std::vector<std::string> CheckpointStore::complete() const {
  std::vector<std::string> names;
  std::error_code ignored;  // no folder: no checkpoints
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && fs::exists(entry.path() / "state.json")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void CheckpointStore::remove(const std::string& name) {
  // Renamed first, so that a checkpoint that is half removed is never taken for one.
  const fs::path doomed = fs::path(folder_) / (kRemovingPrefix + name);
  std::error_code failure;
  fs::remove_all(doomed, failure);
  rename_or_throw(fs::path(folder_) / name, doomed);
  fs::remove_all(doomed, failure);
  if (failure) throw_io("remove", doomed.string(), failure.value());
}

void CheckpointStore::remove_old() {
  std::vector<std::string> names = complete();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < names.size(); ++i) remove(names[i]);
}

void CheckpointStore::remove_unfinished() {
  std::error_code failure;
  std::vector<fs::path> left_behind;
  for (const auto& entry : fs::directory_iterator(folder_, failure)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kSavingPrefix) || name.starts_with(kRemovingPrefix))
      left_behind.push_back(entry.path());
  }
  for (const fs::path& path : left_behind) {
    fs::remove_all(path, failure);
    if (failure) throw_io("remove", path.string(), failure.value());
  }
  remove_unfinished_files(folder_);
}

void CheckpointStore::remove_after(std::int64_t step) {
  for (const std::string& name : complete()) {
    if (name > name_of_step(step)) remove(name);
  }
  const std::vector<std::string> left = complete();
  const fs::path pointer = fs::path(folder_) / "LATEST";
  if (!left.empty()) {
    point_latest_to(left.back());
    return;
  }
  std::error_code failure;
  fs::remove(pointer, failure);
  if (failure) throw_io("remove", pointer.string(), failure.value());
}

void CheckpointStore::tidy() {
  remove_unfinished();
  const std::vector<std::string> names = complete();
  if (names.empty()) return;
  const fs::path pointer = fs::path(folder_) / "LATEST";
  if (!fs::exists(pointer) || read_file(pointer.string()) != names.back() + "\n")
    point_latest_to(names.back());
  remove_old();
}

std::optional<std::string> CheckpointStore::newest() const {
  const std::vector<std::string> names = complete();
  if (names.empty()) return std::nullopt;
  return (fs::path(folder_) / names.back()).string();
}

TrainState CheckpointStore::load(const std::string& checkpoint, ParameterOptimizer& optimizer,
                                 const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  const fs::path folder(checkpoint);
  TrainState state = TrainState::from_value(read_json_file((folder / "state.json").string()));
  const at::NoGradGuard no_grad;
  const ShardReader reader(checkpoint);
  const bool has_average = reader.contains_any(kAveragePrefix);
  if (reader.contains_any(kOptimizerPrefix)) optimizer.create_state();
  // In place: strategies may have hooks on the leaves.
  for (const ShardedTensor& tensor : sharded_tensors(optimizer, parameters)) {
    if (has_average || !tensor.name.starts_with(kAveragePrefix)) reader.read(tensor);
  }
  if (!has_average && average_ != nullptr) average_->reset();
  return state;
}

TrainedValues::TrainedValues(const std::string& checkpoint,
                             const std::vector<std::shared_ptr<Parameter>>& parameters,
                             bool average)
    : prefix_(average ? kAveragePrefix : kModelPrefix), reader_(checkpoint) {
  if (average && !reader_.contains_any(prefix_)) {
    throw_bad_input("the checkpoint has no average of the weights", {}, kAverageFile, checkpoint,
                    "a run writes it where its recipe has [ema] decay");
  }
  std::set<std::string> left;
  for (const std::string& name : reader_.names())
    if (name.starts_with(prefix_)) left.insert(name);
  for (const auto& parameter : parameters) {
    const std::string name = prefix_ + parameter->name();
    if (left.erase(name) == 0) continue;
    // Averages are float32, whatever the weights are.
    const at::ScalarType dtype = average ? at::kFloat : parameter->value().scalar_type();
    reader_.check(name, parameter->spec().shape(), dtype);
  }
  if (!left.empty()) {
    throw_bad_input("the checkpoint has a tensor that the model has not",
                    left.begin()->substr(prefix_.size()), {}, checkpoint,
                    "the checkpoint belongs to another recipe");
  }
}

bool TrainedValues::contains(const Parameter& parameter) const {
  return reader_.contains(prefix_ + parameter.name());
}

at::Tensor TrainedValues::read(const Parameter& parameter, const ShardPiece& piece) const {
  const std::string name = prefix_ + parameter.name();
  const at::Tensor part = at::empty(piece.extent, at::TensorOptions().dtype(reader_.dtype(name)));
  reader_.read(
      {name,
       parameter.spec().shape(),
       part,
       {{{piece.offset, piece.extent, std::vector<std::int64_t>(piece.offset.size(), 0)}}, true}});
  return part.to(parameter.value().scalar_type());
}

void load_trained_values(const std::string& checkpoint,
                         const std::vector<std::shared_ptr<Parameter>>& parameters, bool average) {
  const at::NoGradGuard no_grad;
  const TrainedValues values(checkpoint, parameters, average);
  for (const auto& parameter : parameters) {
    if (!values.contains(*parameter)) continue;
    parameter->value().copy_(
        values.read(*parameter, whole_layout(*parameter, true).pieces.front()));
  }
}

}  // namespace espalier
