#include "espalier/base/checkpoint_reader.h"

#include <algorithm>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors.h"
#include "espalier/base/suggest.h"
#include "espalier/base/torch_file.h"
#include "espalier/sdk/checkpoint_format.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

/// In the order in which they are looked for, which is that of transformers.
constexpr const char* kWeightsNames[] = {"model.safetensors", "model.safetensors.index.json",
                                         "pytorch_model.bin", "pytorch_model.bin.index.json"};
constexpr const char* kFetchAgain =
    "the download or copy is incomplete or mixes two checkpoints: fetch the folder again";

/// The file to open for `path`; empty when there is none.
std::string weights_file(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return fs::exists(path, ignored) ? path : std::string();
  for (const char* name : kWeightsNames) {
    const fs::path candidate = fs::path(path) / name;
    if (fs::exists(candidate, ignored)) return candidate.string();
  }
  return {};
}

/// Safetensors, unless the name does not say so and the content is a zip archive or a pickle.
std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
  if (!path.ends_with(".safetensors") && TorchFile::is_torch_file(path))
    return std::make_unique<TorchFile>(path);
  return std::make_unique<SafetensorsFile>(path);
}

/// Shards lie beside or below the index, nowhere else.
bool stays_inside(const fs::path& name) {
  if (name.empty() || name.is_absolute() || !name.has_filename()) return false;
  return std::none_of(name.begin(), name.end(), [](const fs::path& part) { return part == ".."; });
}

}  // namespace

CheckpointReader::~CheckpointReader() = default;

bool CheckpointReader::has_weights(const std::string& path) { return !weights_file(path).empty(); }

CheckpointReader::CheckpointReader(const std::string& path) : path_(weights_file(path)) {
  if (path_.empty()) {
    throw_bad_input("no weights were found", {},
                    "model.safetensors, pytorch_model.bin, or an index of one of them", path,
                    "check the path of the model folder");
  }
  indexed_ = path_.ends_with(".json");
  if (indexed_) {
    read_index();
  } else {
    Shard& only = shard(path_);
    for (const TensorInfo& tensor : open(only).tensors()) shard_of_.emplace(tensor.name, &only);
  }
  for (const auto& entry : shard_of_) names_.push_back(entry.first);
}

CheckpointReader::CheckpointReader(const std::string& path, const std::vector<std::string>& files,
                                   const CheckpointFormat& format)
    : path_(path) {
  ESPALIER_ASSERT(!files.empty(), "a checkpoint has at least one file");
  for (const std::string& name : files) {
    Shard& own = shard(name);
    own.file = format.open(name);
    own.visible.store(own.file.get());
    for (const TensorInfo& tensor : own.file->tensors()) {
      const auto [known, is_new] = shard_of_.emplace(tensor.name, &own);
      if (!is_new) {
        throw_bad_input("tensor '" + tensor.name + "' is in two files",
                        known->second->path + " and " + name, "each tensor once", path,
                        "take the files of other checkpoints out of the folder");
      }
    }
  }
  for (const auto& entry : shard_of_) names_.push_back(entry.first);
}

void CheckpointReader::read_index() {
  const Value index = read_json_file(path_);
  const Value* weight_map = index.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_table()) {
    throw_bad_input("the index has no weight_map", {}, "an object from tensor names to files",
                    path_);
  }
  const fs::path folder = fs::path(path_).parent_path();
  ProblemList problems;
  for (const auto& [name, file] : weight_map->as_table()) {
    if (!file.is_string() || !stays_inside(file.as_string())) {
      problems.add({.what = "the index gives no usable file for tensor '" + name + "'",
                    .found = dump_json(file),
                    .expected = "the name of a file in the same folder",
                    .where = path_});
      continue;
    }
    Shard& target = shard((folder / file.as_string()).string());
    target.names.push_back(name);
    shard_of_.emplace(name, &target);
  }
  for (const auto& shard : shards_) {
    if (std::error_code ignored; fs::exists(shard->path, ignored)) continue;
    problems.add(
        {.what = "a shard of the checkpoint is missing",
         .expected = shard->path + " with " + std::to_string(shard->names.size()) + " tensors",
         .where = path_,
         .hint = kFetchAgain});
  }
  problems.throw_if_any();
}

CheckpointReader::Shard& CheckpointReader::shard(const std::string& file) {
  for (const auto& known : shards_) {
    if (known->path == file) return *known;
  }
  shards_.push_back(std::make_unique<Shard>());
  shards_.back()->path = file;
  return *shards_.back();
}

const TensorFile& CheckpointReader::open(Shard& shard) const {
  if (const TensorFile* file = shard.visible.load()) return *file;
  const std::lock_guard lock(shard.opening);
  if (shard.file == nullptr) {
    std::unique_ptr<TensorFile> file = open_tensor_file(shard.path);
    if (indexed_) check_against_index(shard, *file);
    shard.file = std::move(file);
    shard.visible.store(shard.file.get());
  }
  return *shard.file;
}

void CheckpointReader::check_against_index(const Shard& shard, const TensorFile& file) const {
  ProblemList problems;
  for (const std::string& name : shard.names) {
    if (file.find(name) != nullptr) continue;
    problems.add({.what = "the index says that tensor '" + name + "' is in a file where it is not",
                  .found = std::to_string(file.tensors().size()) + " other tensors",
                  .where = shard.path,
                  .hint = kFetchAgain});
  }
  for (const TensorInfo& tensor : file.tensors()) {
    const auto found = shard_of_.find(tensor.name);
    if (found == shard_of_.end()) {
      problems.add({.what = "tensor '" + tensor.name + "' is in a shard but not in the index",
                    .where = shard.path,
                    .hint = kFetchAgain});
    } else if (found->second != &shard) {
      problems.add({.what = "tensor '" + tensor.name + "' is in two shards",
                    .found = shard.path,
                    .expected = "only in " + found->second->path + ", as the index says",
                    .where = path_,
                    .hint = kFetchAgain});
    }
  }
  problems.throw_if_any();
}

bool CheckpointReader::contains(std::string_view name) const {
  return shard_of_.find(name) != shard_of_.end();
}

const TensorFile& CheckpointReader::file_of(std::string_view name) const {
  const auto found = shard_of_.find(name);
  if (found != shard_of_.end()) return open(*found->second);
  throw_bad_input("there is no tensor '" + std::string(name) + "' in the checkpoint", {},
                  std::to_string(names_.size()) + " other tensors are there", path_,
                  did_you_mean(name, names_));
}

void CheckpointReader::verify() const {
  ProblemList problems;
  for (const auto& shard : shards_) {
    try {
      open(*shard);
    } catch (const Error& error) {
      for (const Problem& problem : error.problems()) problems.add(problem);
    }
  }
  problems.throw_if_any();
}

std::uint64_t CheckpointReader::bytes_requested() const {
  std::uint64_t total = 0;
  for (const auto& shard : shards_) {
    if (const TensorFile* file = shard->visible.load()) total += file->bytes_requested();
  }
  return total;
}

}  // namespace espalier
