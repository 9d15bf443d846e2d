#include "espalier/parallel/device_mesh.h"

#include <algorithm>
#include <span>

#include "espalier/base/error.h"

namespace espalier::parallel {
namespace {

constexpr std::size_t kAxisCount = DeviceMesh::kAxes.size();

struct FlattenedAxis {
  std::string_view name;
  std::size_t first;
  std::size_t last;
};

constexpr FlattenedAxis kFlattened[] = {{"dp", 1, 2}, {"dp_shard_cp", 2, 3}, {"dp_cp", 1, 3}};

FlattenedAxis find_axis(std::string_view name) {
  for (std::size_t i = 0; i < kAxisCount; ++i) {
    if (DeviceMesh::kAxes[i] == name) return {name, i, i};
  }
  for (const FlattenedAxis& axis : kFlattened) {
    if (axis.name == name) return axis;
  }
  throw_bad_input("the mesh has no axis '" + std::string(name) + "'", std::string(name),
                  "pp, dp_replicate, dp_shard, cp, tp, dp, dp_shard_cp or dp_cp",
                  "the device mesh");
}

std::array<int, kAxisCount> coordinates_of(int rank, std::span<const int> sizes) {
  std::array<int, kAxisCount> place{};
  for (std::size_t i = kAxisCount; i-- > 0;) {
    place[i] = rank % sizes[i];
    rank /= sizes[i];
  }
  return place;
}

void add_problem(ProblemList& problems, const std::string& where, const char* key,
                 const std::string& what, const std::string& found, const std::string& expected,
                 const std::string& hint) {
  problems.add({ErrorCode::kBadInput, what, found, expected, where + "." + key, hint});
}

}  // namespace

DeviceMesh::DeviceMesh(const MeshConfig& config, int world_size, const std::string& where)
    : world_size_(world_size) {
  ProblemList problems;
  const std::string ranks = std::to_string(world_size) + (world_size == 1 ? " rank" : " ranks");
  const std::int64_t others = config.tp_size * config.cp_size * config.pp_size;
  const bool divides = world_size % others == 0;
  if (!divides) {
    add_problem(problems, where, "tp_size",
                "tp_size * cp_size * pp_size does not divide the number of ranks",
                std::to_string(config.tp_size) + " * " + std::to_string(config.cp_size) + " * " +
                    std::to_string(config.pp_size) + " with " + ranks,
                "a divisor of " + std::to_string(world_size),
                "start another number of processes, or change the sizes");
  }
  const std::int64_t dp = config.dp_size.value_or(divides ? world_size / others : 1);
  if (config.dp_size && dp * others != world_size) {
    add_problem(problems, where, "dp_size", "the sizes do not multiply to the number of ranks",
                std::to_string(dp) + " * " + std::to_string(others) + " with " + ranks,
                std::to_string(world_size),
                divides ? "leave dp_size out: it is then " + std::to_string(world_size / others)
                        : "leave dp_size out");
  }
  const std::int64_t replicas = config.dp_replicate_size.value_or(1);
  // Where the sizes above are wrong, nothing can be said of how dp is cut.
  if (divides || config.dp_size) {
    if (dp % replicas != 0) {
      add_problem(problems, where, "dp_replicate_size",
                  "dp_replicate_size does not divide the data-parallel size",
                  std::to_string(replicas) + " of " + std::to_string(dp), "a divisor", {});
    } else if (replicas > 1 && replicas >= dp) {
      add_problem(problems, where, "dp_replicate_size",
                  "dp_replicate_size leaves nothing to shard over",
                  std::to_string(replicas) + " of " + std::to_string(dp),
                  "1, or less than " + std::to_string(dp),
                  "type = \"ddp\" keeps a whole copy on every rank");
    }
  }
  problems.throw_if_any();
  sizes_ = {static_cast<int>(config.pp_size), static_cast<int>(replicas),
            static_cast<int>(dp / replicas), static_cast<int>(config.cp_size),
            static_cast<int>(config.tp_size)};
}

int DeviceMesh::size(std::string_view axis) const {
  const FlattenedAxis range = find_axis(axis);
  int product = 1;
  for (std::size_t i = range.first; i <= range.last; ++i) product *= sizes_[i];
  return product;
}

int DeviceMesh::coordinate(int rank, std::string_view axis) const {
  const FlattenedAxis range = find_axis(axis);
  const auto place = coordinates_of(rank, sizes_);
  int index = 0;
  for (std::size_t i = range.first; i <= range.last; ++i) index = index * sizes_[i] + place[i];
  return index;
}

std::vector<int> DeviceMesh::peers(int rank, std::string_view axis) const {
  const FlattenedAxis range = find_axis(axis);
  const auto own = coordinates_of(rank, sizes_);
  std::vector<int> ranks;
  for (int other = 0; other < world_size_; ++other) {
    const auto place = coordinates_of(other, sizes_);
    bool same = true;
    for (std::size_t i = 0; i < kAxisCount; ++i) {
      if (i < range.first || i > range.last) same = same && place[i] == own[i];
    }
    if (same) ranks.push_back(other);
  }
  return ranks;
}

std::shared_ptr<Communicator> DeviceMesh::connect(World& world, std::string_view axis) const {
  if (size(axis) == 1) return solo_communicator();
  std::shared_ptr<Communicator> own;
  for (int rank = 0; rank < world_size_; ++rank) {
    const std::vector<int> ranks = peers(rank, axis);
    if (ranks.front() != rank) continue;  // each group once, at its first rank
    auto group = world.group(std::string(axis) + std::to_string(rank), ranks);
    if (group != nullptr) own = std::move(group);
  }
  return own;
}

}  // namespace espalier::parallel
