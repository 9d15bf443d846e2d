#include "engine/checkpoint/tensor_shards.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <filesystem>

#include "engine/parallel/shard_pieces.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/safetensors_writer.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Sizes = std::vector<std::int64_t>;

constexpr std::int64_t kManifestVersion = 1;
constexpr const char* kIdKey = "checkpoint_id";
constexpr const char* kPlacesKey = "places";
constexpr const char* kOtherModel =
    "the checkpoint belongs to another model; use --resume never or another output_dir";
constexpr const char* kHint = "use an older checkpoint with --resume, or --resume never";

Value to_value(const Sizes& sizes) {
  Array array;
  for (const std::int64_t size : sizes) array.emplace_back(size);
  return array;
}

Sizes to_sizes(const Value& value) {
  Sizes sizes;
  for (const Value& item : value.as_array()) sizes.push_back(item.as_int());
  return sizes;
}

std::int64_t count_of(const Sizes& extent) {
  std::int64_t count = 1;
  for (const std::int64_t size : extent) count *= size;
  return count;
}

const Value& member(const Value& table, const char* key) {
  const Value* found = table.find(key);
  if (found == nullptr)
    throw_bad_input("the manifest of a checkpoint lacks a key", {}, key,
                    table.position().to_string(), kHint);
  return *found;
}

bool overlaps(const Sizes& a, const Sizes& a_extent, const Sizes& b, const Sizes& b_extent) {
  for (std::size_t d = 0; d < a.size(); ++d) {
    if (a[d] >= b[d] + b_extent[d] || b[d] >= a[d] + a_extent[d]) return false;
  }
  return true;
}

/// Without what says the kind of the tensor.
std::string plain_name(const std::string& name) { return name.substr(name.find('/') + 1); }

struct Place {
  Sizes offset;
  Sizes extent;
};

/// Pieces of one tensor have to tile it.
void check_tiling(const std::string& name, const Sizes& shape, const std::vector<Place>& places) {
  std::int64_t covered = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    covered += count_of(places[i].extent);
    for (std::size_t j = 0; j < i; ++j)
      ESPALIER_ASSERT(
          !overlaps(places[i].offset, places[i].extent, places[j].offset, places[j].extent),
          "two ranks write the same part of " + name);
  }
  ESPALIER_ASSERT(covered == count_of(shape), "no rank writes a part of " + name);
}

}  // namespace

CheckpointFile shards_file(const std::string& name, const std::vector<ShardedTensor>& tensors,
                           const std::string& checkpoint_id) {
  const at::NoGradGuard no_grad;
  CheckpointFile file;
  file.name = name;
  Table places;
  for (const ShardedTensor& tensor : tensors) {
    if (!tensor.layout.writes) continue;
    std::size_t number = 0;
    for (const ShardPiece& piece : tensor.layout.pieces) {
      const std::string key = tensor.name + "#" + std::to_string(number++);
      file.tensors.emplace_back(key, box(tensor.local.detach(), piece.local_offset, piece.extent));
      Table place;
      place.set("tensor", tensor.name);
      place.set("shape", to_value(tensor.shape));
      place.set("offset", to_value(piece.offset));
      places.set(key, std::move(place));
    }
  }
  file.metadata = {{kIdKey, checkpoint_id}, {kPlacesKey, dump_json(Value(std::move(places)))}};
  return file;
}

Value make_manifest(const std::string& folder, const std::vector<std::string>& files,
                    const std::string& checkpoint_id) {
  struct Collected {
    std::string dtype;
    Sizes shape;
    std::vector<Place> places;
    Array pieces;
  };
  std::map<std::string, Collected> tensors;
  Array file_list;
  for (const std::string& name : files) {
    const std::string path = (fs::path(folder) / name).string();
    const SafetensorsFile file(path);
    Table entry;
    entry.set("name", name);
    entry.set("bytes", static_cast<std::int64_t>(fs::file_size(path)));
    file_list.emplace_back(std::move(entry));
    const Value places = parse_json(file.metadata().at(kPlacesKey));
    for (const auto& [key, place] : places.as_table()) {
      const TensorInfo& info = file.at(key);
      Collected& tensor = tensors[member(place, "tensor").as_string()];
      tensor.dtype = std::string(dtype_name(info.dtype));
      tensor.shape = to_sizes(member(place, "shape"));
      tensor.places.push_back({to_sizes(member(place, "offset")), info.shape});
      Table piece;
      piece.set("file", name);
      piece.set("key", key);
      piece.set("offset", member(place, "offset"));
      piece.set("extent", to_value(info.shape));
      tensor.pieces.emplace_back(std::move(piece));
    }
  }
  Table table;
  for (auto& [name, tensor] : tensors) {
    check_tiling(name, tensor.shape, tensor.places);
    Table entry;
    entry.set("dtype", tensor.dtype);
    entry.set("shape", to_value(tensor.shape));
    entry.set("pieces", std::move(tensor.pieces));
    table.set(name, std::move(entry));
  }
  Table manifest;
  manifest.set("format_version", kManifestVersion);
  manifest.set(kIdKey, checkpoint_id);
  manifest.set("files", std::move(file_list));
  manifest.set("tensors", std::move(table));
  return manifest;
}

ShardReader::ShardReader(const std::string& folder) : folder_(folder) {
  const fs::path manifest = fs::path(folder) / kManifestName;
  if (fs::exists(manifest)) {
    open_manifest(manifest.string());
    return;
  }
  open_whole(kModelFile, kModelPrefix);
  open_whole(kOptimizerFile, kOptimizerPrefix);
  if (fs::exists(fs::path(folder) / kAverageFile)) open_whole(kAverageFile, kAveragePrefix);
}

/// What one process wrote: a tensor is one piece.
void ShardReader::open_whole(const char* name, const char* prefix) {
  auto file = std::make_unique<SafetensorsFile>((fs::path(folder_) / name).string());
  for (const TensorInfo& info : file->tensors()) {
    Stored& stored = tensors_[prefix + info.name];
    stored.dtype = std::string(dtype_name(info.dtype));
    stored.shape = info.shape;
    stored.pieces = {{name, info.name, Sizes(info.shape.size(), 0), info.shape}};
  }
  files_.emplace(name, std::move(file));
}

void ShardReader::open_manifest(const std::string& path) {
  const Value manifest = read_json_file(path);
  if (member(manifest, "format_version").as_int() != kManifestVersion) {
    throw_bad_input("the checkpoint was written by another version of Espalier",
                    "format " + std::to_string(member(manifest, "format_version").as_int()),
                    "format " + std::to_string(kManifestVersion), path);
  }
  open_files(manifest);
  for (const auto& [name, entry] : member(manifest, "tensors").as_table()) {
    Stored& stored = tensors_[name];
    stored.dtype = member(entry, "dtype").as_string();
    stored.shape = to_sizes(member(entry, "shape"));
    for (const Value& piece : member(entry, "pieces").as_array()) {
      stored.pieces.push_back({member(piece, "file").as_string(), member(piece, "key").as_string(),
                               to_sizes(member(piece, "offset")),
                               to_sizes(member(piece, "extent"))});
    }
  }
}

bool ShardReader::contains_any(const std::string& prefix) const {
  const auto found = tensors_.lower_bound(prefix);
  return found != tensors_.end() && found->first.starts_with(prefix);
}

std::vector<std::string> ShardReader::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, stored] : tensors_) names.push_back(name);
  return names;
}

void ShardReader::open_files(const Value& manifest) {
  ProblemList problems;
  const std::string& id = member(manifest, kIdKey).as_string();
  for (const Value& entry : member(manifest, "files").as_array()) {
    const std::string& name = member(entry, "name").as_string();
    const std::string path = (fs::path(folder_) / name).string();
    if (!fs::exists(path)) {
      problems.add(
          {ErrorCode::kBadInput, "a file of the checkpoint is missing", {}, name, path, kHint});
      continue;
    }
    try {
      auto file = std::make_unique<SafetensorsFile>(path);
      const auto found = file->metadata().find(kIdKey);
      const std::string other = found == file->metadata().end() ? "none" : found->second;
      if (other != id)
        problems.add({ErrorCode::kBadInput, "a file belongs to another checkpoint", "id " + other,
                      "id " + id, path, kHint});
      files_.emplace(name, std::move(file));
    } catch (const Error& error) {
      for (const Problem& problem : error.problems()) problems.add(problem);
    }
  }
  problems.throw_if_any();
}

void ShardReader::copy_overlap(const Piece& stored, const ShardPiece& wanted,
                               const at::Tensor& local) const {
  if (!overlaps(stored.offset, stored.extent, wanted.offset, wanted.extent)) return;
  const std::size_t dimensions = stored.offset.size();
  std::vector<DimensionRange> ranges(dimensions);
  Sizes target(dimensions);
  Sizes extent(dimensions);
  for (std::size_t d = 0; d < dimensions; ++d) {
    const std::int64_t begin = std::max(stored.offset[d], wanted.offset[d]);
    const std::int64_t end =
        std::min(stored.offset[d] + stored.extent[d], wanted.offset[d] + wanted.extent[d]);
    ranges[d] = {begin - stored.offset[d], end - stored.offset[d]};
    target[d] = begin - wanted.offset[d] + wanted.local_offset[d];
    extent[d] = end - begin;
  }
  const at::Tensor part = at::empty(extent, local.options().device(at::kCPU).requires_grad(false));
  files_.at(stored.file)
      ->read_slice(stored.key, ranges,
                   std::span(static_cast<std::byte*>(part.mutable_data_ptr()), part.nbytes()));
  box(local, target, extent).copy_(part);
}

const ShardReader::Stored& ShardReader::stored(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  const std::string plain = plain_name(name);
  if (name.starts_with(kOptimizerPrefix)) {
    throw_bad_input("the checkpoint has no optimizer state '" + plain + "'", {}, plain, folder_,
                    "the checkpoint was made with another optimizer; use --resume never");
  }
  throw_bad_input("the checkpoint has no tensor '" + plain + "'", {}, plain, folder_, kOtherModel);
}

at::ScalarType ShardReader::dtype(const std::string& name) const {
  const Stored& own = stored(name);
  return scalar_type_of(files_.at(own.pieces.front().file)->at(own.pieces.front().key).dtype);
}

void ShardReader::check(const std::string& name, const Sizes& shape, at::ScalarType dtype) const {
  const Stored& own = stored(name);
  const std::string wanted(dtype_name(dtype_of(dtype)));
  if (own.shape == shape && own.dtype == wanted) return;
  const bool state = name.starts_with(kOptimizerPrefix);
  throw_bad_input(
      "tensor '" + plain_name(name) + "' of the checkpoint has another shape or dtype than the " +
          (state ? "optimizer's" : "model"),
      c10::str(at::IntArrayRef(own.shape), " ", own.dtype),
      c10::str(at::IntArrayRef(shape), " ", wanted), folder_,
      state ? "the optimizer's settings differ from those of the checkpoint; use --resume never"
            : kOtherModel);
}

void ShardReader::read(const ShardedTensor& into) const {
  const at::NoGradGuard no_grad;
  check(into.name, into.shape, into.local.scalar_type());
  for (const ShardPiece& wanted : into.layout.pieces) {
    for (const Piece& piece : stored(into.name).pieces)
      copy_overlap(piece, wanted, into.local.detach());
  }
}

}  // namespace espalier
