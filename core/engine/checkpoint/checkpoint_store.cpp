#include "engine/checkpoint/checkpoint_store.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>

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
constexpr const char* kRemovingPrefix = ".removing-";

std::string name_of_step(std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

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

/// The parameter's new value from the checkpoint, whole, with its shape and dtype checked.
at::Tensor restored(std::map<std::string, at::Tensor>& tensors, const Parameter& parameter,
                    const std::string& file) {
  const auto found = tensors.find(parameter.name());
  if (found == tensors.end()) {
    throw_bad_input(
        "the checkpoint has no tensor '" + parameter.name() + "'", {}, parameter.name(), file,
        "the checkpoint belongs to another model; use --resume never or another output_dir");
  }
  const std::vector<std::int64_t> shape = parameter.spec().shape();
  if (found->second.sizes() != at::IntArrayRef(shape) ||
      found->second.scalar_type() != parameter.value().scalar_type()) {
    throw_bad_input(
        "tensor '" + parameter.name() +
            "' of the checkpoint has another shape or dtype than the model",
        c10::str(found->second.sizes(), " ", found->second.scalar_type()),
        c10::str(at::IntArrayRef(shape), " ", parameter.value().scalar_type()), file,
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
}

/// What makes a whole of the parts: manifest, state, and the name under which it is found.
void CheckpointStore::commit(const std::string& saving, const TrainState& state) {
  const fs::path folder(folder_);
  const std::string name = name_of_step(state.step);
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

void CheckpointStore::save(const TrainState& state, const ParameterOptimizer& optimizer,
                           const std::vector<std::shared_ptr<Parameter>>& parameters) {
  constexpr const char* kWhat = "saving a checkpoint";
  const fs::path folder(folder_);
  const std::string name = name_of_step(state.step);
  const std::string saving = (folder / (kSavingPrefix + name)).string();
  ranks_.on_first(kWhat, [&] {
    make_folder(saving);
    sync_folder(folder.parent_path().string());
  });
  try {
    ranks_.on_all(kWhat, [&] { write_part(saving, state, optimizer, parameters); });
    ranks_.on_first(kWhat, [&] { commit(saving, state); });
  } catch (...) {
    std::error_code ignored;  // the first failure is the one to report
    if (ranks_.is_first()) fs::remove_all(saving, ignored);
    throw;
  }
  ranks_.on_first(kWhat, [&] {
    point_latest_to(name);
    remove_old();
  });
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
  for (const ShardedTensor& tensor : sharded_tensors(optimizer, parameters)) reader.read(tensor);
}

void CheckpointStore::load_whole(const std::string& checkpoint, ParameterOptimizer& optimizer,
                                 const std::vector<std::shared_ptr<Parameter>>& parameters) const {
  const fs::path folder(checkpoint);
  const std::string weights = (folder / "model.safetensors").string();
  std::map<std::string, at::Tensor> tensors = read_tensors(weights);
  // In place: strategies may have hooks on the leaves.
  for (const auto& parameter : parameters)
    copy_pieces(restored(tensors, *parameter, weights), layout(*parameter), parameter->value());
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

void load_trained_values(const std::string& checkpoint,
                         const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const at::NoGradGuard no_grad;
  const fs::path folder(checkpoint);
  const std::string weights = (folder / "model.safetensors").string();
  std::optional<ShardReader> shards;
  std::map<std::string, at::Tensor> tensors;
  std::set<std::string> left;
  if (fs::exists(folder / kManifestName)) {
    shards.emplace(checkpoint);
    for (const std::string& name : shards->names())
      if (name.starts_with(kModelPrefix)) left.insert(name.substr(std::strlen(kModelPrefix)));
  } else {
    tensors = read_tensors(weights);
    for (const auto& [name, tensor] : tensors) left.insert(name);
  }
  for (const auto& parameter : parameters) {
    if (left.erase(parameter->name()) == 0) continue;
    if (shards)
      shards->read({kModelPrefix + parameter->name(), parameter->spec().shape(), parameter->value(),
                    whole_layout(*parameter, true)});
    else
      parameter->value().copy_(restored(tensors, *parameter, weights));
  }
  if (!left.empty()) {
    throw_bad_input("the checkpoint has a tensor that the model has not", *left.begin(), {},
                    checkpoint, "the checkpoint belongs to another recipe");
  }
}

}  // namespace espalier
