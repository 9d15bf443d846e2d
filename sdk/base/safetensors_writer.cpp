#include "espalier/base/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <tuple>

#include "espalier/base/atomic_file.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr std::uint64_t kMaximumHeaderBytes = 100'000'000;

std::string quoted(const std::string& text, const std::string& path) {
  std::string json = dump_json(Value(text));
  if (parse_json(json).as_string() != text)
    throw_bad_input("a name or metadata text is not UTF-8", json, "UTF-8", path);
  return json;
}

std::uint64_t size_of(const TensorSource& tensor, const std::string& path) {
  return tensor_size_bytes(tensor.dtype, tensor.shape, path + ", tensor '" + tensor.name + "'");
}

/// The order of the file: wide types first, so that every tensor is aligned for its type.
std::vector<const TensorSource*> canonical_order(const std::vector<TensorSource>& tensors) {
  std::vector<const TensorSource*> order;
  order.reserve(tensors.size());
  for (const TensorSource& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    return std::tie(b->dtype, a->name) < std::tie(a->dtype, b->name);
  });
  return order;
}

void check_names(const std::vector<TensorSource>& tensors, const std::string& path) {
  std::set<std::string_view> names;
  for (const TensorSource& tensor : tensors) {
    if (tensor.name == "__metadata__")
      throw_bad_input("a tensor is named '__metadata__'", {}, "another name", path);
    if (!names.insert(tensor.name).second)
      throw_bad_input("two tensors are named '" + tensor.name + "'", {}, "different names", path);
  }
}

/// The header with its length in front, padded with spaces.
std::string header_text(const std::vector<const TensorSource*>& tensors,
                        const TensorMetadata& metadata, const std::string& path) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata)
      json += quoted(key, path) + ":" + quoted(value, path) + ",";
    json.back() = '}';
    json += ',';
  }
  std::uint64_t position = 0;
  for (const TensorSource* tensor : tensors) {
    const std::uint64_t end = position + size_of(*tensor, path);
    json += quoted(tensor->name, path) + ":{\"dtype\":\"" + std::string(dtype_name(tensor->dtype)) +
            "\",\"shape\":[";
    for (std::size_t d = 0; d < tensor->shape.size(); ++d)
      json += (d == 0 ? "" : ",") + std::to_string(tensor->shape[d]);
    json += "],\"data_offsets\":[" + std::to_string(position) + "," + std::to_string(end) + "]},";
    position = end;
  }
  if (json.back() == ',') json.pop_back();
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaximumHeaderBytes) {
    throw_bad_input("the header would be over the limit of the format",
                    std::to_string(json.size()) + " bytes",
                    "at most " + std::to_string(kMaximumHeaderBytes), path,
                    "write the tensors into several shards");
  }
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(json.size() >> (8 * i) & 0xFF);
  return length + json;
}

void append_tensor(AtomicFile& file, const TensorSource& tensor, const std::string& path) {
  const std::uint64_t expected = file.size() + size_of(tensor, path);
  if (tensor.write) {
    tensor.write([&](std::span<const std::byte> bytes) { file.append(bytes); });
  } else {
    file.append(tensor.data);
  }
  ESPALIER_ASSERT(file.size() == expected,
                  "the source of tensor '" + tensor.name + "' gave another number of bytes");
}

/// Indices of the tensors of each shard.
std::vector<std::vector<TensorSource>> split(const std::vector<TensorSource>& tensors,
                                             const std::string& folder, std::uint64_t limit) {
  std::vector<std::vector<TensorSource>> shards(1);
  std::uint64_t filled = 0;
  for (const TensorSource& tensor : tensors) {
    const std::uint64_t size = size_of(tensor, folder);
    if (!shards.back().empty() && (filled > limit || size > limit - filled)) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensor);
    filled += size;
  }
  return shards;
}

std::string shard_name(const std::string& stem, std::size_t shard, std::size_t count) {
  std::array<char, 64> numbers{};
  std::snprintf(numbers.data(), numbers.size(), "-%05zu-of-%05zu.safetensors", shard + 1, count);
  return stem + numbers.data();
}

std::string index_text(const std::map<std::string, std::string>& weight_map,
                       std::uint64_t total_bytes) {
  Table metadata;
  metadata.set("total_size", static_cast<std::int64_t>(total_bytes));
  Table files;
  for (const auto& [name, file] : weight_map) files.set(name, file);
  Table index;
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(files));
  return dump_json(index, 2) + "\n";
}

/// What stands in which file.
struct ShardPlan {
  std::vector<std::string> names;
  std::vector<std::vector<TensorSource>> shards;
  std::string index_name;
  std::string index;  ///< empty where there is one shard
};

ShardPlan plan_shards(const std::vector<TensorSource>& tensors, const std::string& folder,
                      const ShardingOptions& options) {
  check_names(tensors, folder);
  ShardPlan plan;
  plan.shards = split(tensors, folder, options.max_shard_bytes);
  plan.index_name = options.stem + ".safetensors.index.json";
  std::map<std::string, std::string> weight_map;
  std::uint64_t total_bytes = 0;
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    plan.names.push_back(plan.shards.size() == 1 ? options.stem + ".safetensors"
                                                 : shard_name(options.stem, i, plan.shards.size()));
    for (const TensorSource& tensor : plan.shards[i]) {
      weight_map.emplace(tensor.name, plan.names.back());
      total_bytes += size_of(tensor, folder);
    }
  }
  if (plan.shards.size() > 1) plan.index = index_text(weight_map, total_bytes);
  return plan;
}

/// Removes weights of an earlier save, which a reader would take for part of this one.
void remove_stale(const std::string& folder, const std::string& stem,
                  const std::vector<std::string>& written) {
  namespace fs = std::filesystem;
  const std::regex shard("-[0-9]{5}-of-[0-9]{5}\\.safetensors");
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.empty() ? "." : folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(stem)) continue;
    const std::string rest = name.substr(stem.size());
    const bool ours = rest == ".safetensors" || rest == ".safetensors.index.json" ||
                      std::regex_match(rest, shard);
    if (ours && std::find(written.begin(), written.end(), name) == written.end())
      fs::remove(entry.path());
  }
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<TensorSource>& tensors,
                       const TensorMetadata& metadata) {
  check_names(tensors, path);
  const std::vector<const TensorSource*> order = canonical_order(tensors);
  const std::string header = header_text(order, metadata, path);
  AtomicFile file(path);
  file.append(header);
  for (const TensorSource* tensor : order) append_tensor(file, *tensor, path);
  file.commit();
}

std::vector<std::string> write_safetensors_sharded(const std::string& folder,
                                                   const std::vector<TensorSource>& tensors,
                                                   const TensorMetadata& metadata,
                                                   const ShardingOptions& options) {
  const std::filesystem::path root(folder);
  const ShardPlan plan = plan_shards(tensors, folder, options);
  std::vector<std::string> written = plan.names;
  for (std::size_t i = 0; i < plan.shards.size(); ++i)
    write_safetensors((root / plan.names[i]).string(), plan.shards[i], metadata);
  if (!plan.index.empty()) {
    written.push_back(plan.index_name);
    write_file_atomically((root / plan.index_name).string(), plan.index);
  }
  remove_stale(folder, options.stem, written);
  return written;
}

PlannedWeights plan_safetensors_sharded(const std::vector<TensorSource>& tensors,
                                        const TensorMetadata& metadata,
                                        const ShardingOptions& options) {
  const ShardPlan plan = plan_shards(tensors, {}, options);
  PlannedWeights weights{{}, plan.index_name, plan.index};
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    const std::vector<const TensorSource*> order = canonical_order(plan.shards[i]);
    PlannedFile& file = weights.files.emplace_back();
    file.name = plan.names[i];
    file.head = header_text(order, metadata, file.name);
    file.bytes = file.head.size();
    for (const TensorSource* tensor : order) {
      file.position.emplace(tensor->name, file.bytes);
      file.bytes += size_of(*tensor, file.name);
    }
  }
  return weights;
}

}  // namespace espalier
