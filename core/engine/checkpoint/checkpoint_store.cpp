#include "engine/checkpoint/checkpoint_store.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>

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
constexpr const char* kModelPrefix = "model/";  // of tensors in a manifest
constexpr const char* kAveragePrefix = "average/";
constexpr const char* kAverageFile = "average.safetensors";
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

/// The parameter's new value from the checkpoint, whole, with its shape and dtype checked.
at::Tensor restored(std::map<std::string, at::Tensor>& tensors, const Parameter& parameter,
                    at::ScalarType dtype, const std::string& file) {
  const auto found = tensors.find(parameter.name());
  if (found == tensors.end()) {
    throw_bad_input(
        "the checkpoint has no tensor '" + parameter.name() + "'", {}, parameter.name(), file,
        "the checkpoint belongs to another model; use --resume never or another output_dir");
  }
  const std::vector<std::int64_t> shape = parameter.spec().shape();
  if (found->second.sizes() != at::IntArrayRef(shape) || found->second.scalar_type() != dtype) {
    throw_bad_input(
        "tensor '" + parameter.name() +
            "' of the checkpoint has another shape or dtype than the model",
        c10::str(found->second.sizes(), " ", found->second.scalar_type()),
        c10::str(at::IntArrayRef(shape), " ", dtype), file,
        "the checkpoint belongs to another model; use --resume never or another output_dir");
  }
  return std::move(found->second);
}

/// What this rank holds of a whole tensor.
void copy_pieces(const at::Tensor& whole, const ParameterLayout& layout, const at::Tensor& local) {
  for (const ShardPiece& piece : layout.pieces)
    box(local, piece.local_offset, piece.extent).copy_(box(whole, piece.offset, piece.extent));
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

CheckpointStore::CheckpointStore(std::string folder, std::int64_t keep, RankAgreement ranks,
                                 const ParallelStrategy* strategy)
    : folder_(std::move(folder)), keep_(keep), ranks_(ranks), strategy_(strategy) {}

ParameterLayout CheckpointStore::layout(const Parameter& parameter) const {
  return strategy_ == nullptr ? whole_layout(parameter, true) : strategy_->layout(parameter);
}

/// What is not cut as its parameter is the same on all ranks.
ParameterLayout CheckpointStore::layout(const ParameterOptimizer::StateTensor& state) const {
  if (state.like_parameter) return layout(*state.parameter);
  const std::vector<std::int64_t> shape = state.tensor.sizes().vec();
  const std::vector<std::int64_t> zeros(shape.size(), 0);
  return {{{zeros, shape, zeros}}, ranks_.is_first()};
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
    tensor.name = "optimizer/" + state.name;
    tensor.local = state.tensor;
    tensor.layout = layout(state);
    tensor.shape =
        state.like_parameter ? state.parameter->spec().shape() : state.tensor.sizes().vec();
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

void CheckpointStore::write_part(const std::string& saving, const TrainState& state,
                                 const ParameterOptimizer& optimizer,
                                 const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  const fs::path folder(saving);
  const int world = ranks_.world().size();
  if (world > 1) {
    write_shards((folder / rank_file(ranks_.world().rank(), world)).string(),
                 sharded_tensors(optimizer, parameters), checkpoint_id(state));
    return;
  }
  std::vector<TensorSource> weights;
  weights.reserve(parameters.size());
  for (const auto& parameter : parameters)
    weights.push_back(tensor_source(parameter->name(), parameter->value()));
  write_safetensors((folder / "model.safetensors").string(), weights);
  write_tensors((folder / "optimizer.safetensors").string(), optimizer.state());
  if (average_ == nullptr) return;
  std::vector<TensorSource> averages;
  for (std::size_t i = 0; i < average_->parameters().size(); ++i)
    averages.push_back(tensor_source(average_->parameters()[i]->name(), average_->averages()[i]));
  write_safetensors((folder / kAverageFile).string(), averages);
}

/// What makes a whole of the parts: manifest, state, and the name under which it is found.
void CheckpointStore::commit(const std::string& saving, const std::string& name,
                             const TrainState& state) {
  const fs::path folder(folder_);
  const int world = ranks_.world().size();
  if (world > 1) {
    std::vector<std::string> files;
    for (int rank = 0; rank < world; ++rank) files.push_back(rank_file(rank, world));
    write_file_atomically((fs::path(saving) / kManifestName).string(),
                          dump_json(make_manifest(saving, files, checkpoint_id(state))) + "\n");
  }
  write_file_atomically((fs::path(saving) / "state.json").string(),
                        dump_json(state.to_value(), 2) + "\n");
  sync_folder(saving);
  if (fs::exists(folder / name)) remove(name);
  rename_or_throw(saving, folder / name);
  sync_folder(folder_);
}

void CheckpointStore::write(const std::string& name, const TrainState& state,
                            const ParameterOptimizer& optimizer,
                            const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const fs::path folder(folder_);
  const std::string saving = (folder / (kSavingPrefix + name)).string();
  ranks_.on_first(kWhat, [&] {
    make_folder(saving);
    sync_folder(folder.parent_path().string());
  });
  try {
    ranks_.on_all(kWhat, [&] {
      require_finite_weights(parameters, state.step);
      write_part(saving, state, optimizer, parameters);
    });
    ranks_.on_first(kWhat, [&] { commit(saving, name, state); });
  } catch (...) {
    std::error_code ignored;  // the first failure is the one to report
    if (ranks_.is_first()) fs::remove_all(saving, ignored);
    throw;
  }
}

void CheckpointStore::save(const TrainState& state, const ParameterOptimizer& optimizer,
                           const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const std::string name = name_of_step(state.step);
  write(name, state, optimizer, parameters);
  saved_best_step_ = state.best.best_step;
  ranks_.on_first(kWhat, [&] {
    point_latest_to(name);
    remove_old();
    remove_best_but({name_of_best(saved_best_step_)});
  });
}

void CheckpointStore::save_best(const TrainState& state, const ParameterOptimizer& optimizer,
                                const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const std::string name = name_of_best(state.step);
  write(name, state, optimizer, parameters);
  ranks_.on_first(kWhat, [&] {
    point_best_to(name);
    remove_best_but({name, name_of_best(saved_best_step_)});
  });
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
  if (fs::exists(folder / kManifestName))
    load_shards(checkpoint, optimizer, parameters);
  else
    load_whole(checkpoint, optimizer, parameters);
  return state;
}

void CheckpointStore::load_shards(const std::string& checkpoint, ParameterOptimizer& optimizer,
                                  const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  const ShardReader reader(checkpoint);
  optimizer.create_state();
  const std::vector<std::string> names = reader.names();
  const bool has_average = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.starts_with(kAveragePrefix);
  });
  for (const ShardedTensor& tensor : sharded_tensors(optimizer, parameters)) {
    if (has_average || !tensor.name.starts_with(kAveragePrefix)) reader.read(tensor);
  }
  if (!has_average && average_ != nullptr) average_->reset();
}

void CheckpointStore::load_whole(const std::string& checkpoint, ParameterOptimizer& optimizer,
                                 const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  const fs::path folder(checkpoint);
  const std::string weights = (folder / "model.safetensors").string();
  std::map<std::string, at::Tensor> tensors = read_tensors(weights);
  // In place: strategies may have hooks on the leaves.
  for (const auto& parameter : parameters)
    copy_pieces(restored(tensors, *parameter, parameter->value().scalar_type(), weights),
                layout(*parameter), parameter->value());
  load_whole_average(checkpoint);
  std::map<std::string, at::Tensor> state =
      read_tensors((folder / "optimizer.safetensors").string());
  if (state.empty()) return;
  optimizer.create_state();
  for (const auto& own : optimizer.state_tensors()) {
    const auto found = state.find(own.name);
    if (found == state.end()) {
      throw_bad_input("the checkpoint has no optimizer state for '" + own.parameter->name() + "'",
                      {}, own.name, "optimizer.safetensors",
                      "the checkpoint was made with another optimizer; use --resume never");
    }
    if (!own.like_parameter && found->second.sizes() != own.tensor.sizes()) {
      throw_bad_input(
          "tensor '" + own.name + "' of the checkpoint has another shape than the optimizer's",
          c10::str(found->second.sizes()), c10::str(own.tensor.sizes()), "optimizer.safetensors",
          "the optimizer's settings differ from those of the checkpoint; use --resume never");
    }
    copy_pieces(found->second, layout(own), own.tensor);
  }
}

void CheckpointStore::load_whole_average(const std::string& checkpoint) const {
  if (average_ == nullptr) return;
  const std::string file = (fs::path(checkpoint) / kAverageFile).string();
  if (!fs::exists(file)) {
    average_->reset();
    return;
  }
  const std::map<std::string, at::Tensor> tensors = read_tensors(file);
  for (std::size_t i = 0; i < average_->parameters().size(); ++i) {
    const Parameter& parameter = *average_->parameters()[i];
    const auto found = tensors.find(parameter.name());
    if (found == tensors.end() || found->second.scalar_type() != at::kFloat ||
        found->second.sizes() != at::IntArrayRef(parameter.spec().shape())) {
      throw_bad_input("the checkpoint has no average of '" + parameter.name() + "'", {},
                      parameter.name(), file,
                      "the checkpoint belongs to another model; use --resume never or another "
                      "output_dir");
    }
    copy_pieces(found->second, layout(parameter), average_->averages()[i]);
  }
}

void load_trained_values(const std::string& checkpoint,
                         const std::vector<std::shared_ptr<Parameter>>& parameters, bool average) {
  const at::NoGradGuard no_grad;
  const fs::path folder(checkpoint);
  const std::string prefix = average ? kAveragePrefix : kModelPrefix;
  const std::string weights = (folder / (average ? kAverageFile : "model.safetensors")).string();
  std::optional<ShardReader> shards;
  std::map<std::string, at::Tensor> tensors;
  std::set<std::string> left;
  if (fs::exists(folder / kManifestName)) {
    shards.emplace(checkpoint);
    for (const std::string& name : shards->names())
      if (name.starts_with(prefix)) left.insert(name.substr(prefix.size()));
  } else if (!average || fs::exists(weights)) {
    tensors = read_tensors(weights);
    for (const auto& [name, tensor] : tensors) left.insert(name);
  }
  if (average && left.empty()) {
    throw_bad_input("the checkpoint has no average of the weights", {}, kAverageFile, checkpoint,
                    "a run writes it where its recipe has [ema] decay");
  }
  for (const auto& parameter : parameters) {
    if (left.erase(parameter->name()) == 0) continue;
    // Averages are float32, whatever the weights are.
    const at::Tensor into =
        average ? at::empty_like(parameter->value(), at::TensorOptions().dtype(at::kFloat))
                : parameter->value();
    if (shards)
      shards->read({prefix + parameter->name(), parameter->spec().shape(), into,
                    whole_layout(*parameter, true)});
    else
      into.copy_(restored(tensors, *parameter, into.scalar_type(), weights));
    if (average) parameter->value().copy_(into);
  }
  if (!left.empty()) {
    throw_bad_input("the checkpoint has a tensor that the model has not", *left.begin(), {},
                    checkpoint, "the checkpoint belongs to another recipe");
  }
}

}  // namespace espalier
