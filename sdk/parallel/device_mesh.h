#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/sdk/communicator.h"

namespace espalier::parallel {

/// Sizes of the mesh as in the reference's `distributed` section; absent: inferred.
struct MeshConfig {
  std::optional<std::int64_t> dp_size;
  std::optional<std::int64_t> dp_replicate_size;
  std::int64_t tp_size = 1;
  std::int64_t cp_size = 1;
  std::int64_t pp_size = 1;

  template <class Config>
  static ConfigSchema<Config> schema_of() {
    return ConfigSchema<Config>()
        .field("dp_size", &MeshConfig::dp_size,
               "ranks with different data; default: world size / (tp_size * cp_size * pp_size)")
        .at_least(1)
        .field("dp_replicate_size", &MeshConfig::dp_replicate_size,
               "how many copies of the sharded model there are (HSDP); default 1")
        .at_least(1)
        .field("tp_size", &MeshConfig::tp_size, "ranks that share each layer's matrices")
        .at_least(1)
        .field("cp_size", &MeshConfig::cp_size, "ranks that share each sequence")
        .at_least(1)
        .field("pp_size", &MeshConfig::pp_size, "ranks that share the layers")
        .at_least(1);
  }
};

/// The ranks of a run as a grid with the axes pp, dp_replicate, dp_shard, cp, tp, the last varying
/// fastest. Axes are also known together: dp = (dp_replicate, dp_shard), dp_shard_cp, dp_cp =
/// (dp_replicate, dp_shard, cp).
class ESPALIER_API DeviceMesh {
 public:
  /// Throws Error(kBadInput) with every size that does not fit, named as in section `where`.
  DeviceMesh(const MeshConfig& config, int world_size, const std::string& where = "distributed");

  int world_size() const { return world_size_; }
  /// Ranks along an axis or a flattened one. Throws Error(kBadInput) for an unknown name.
  int size(std::string_view axis) const;
  /// Place of a rank along an axis or a flattened one.
  int coordinate(int rank, std::string_view axis) const;
  /// The ranks that differ from `rank` in this axis alone, rising, itself among them.
  std::vector<int> peers(int rank, std::string_view axis) const;
  /// The group of this process along an axis; every rank calls it, in the same order.
  std::shared_ptr<Communicator> connect(World& world, std::string_view axis) const;

  static constexpr std::array<std::string_view, 5> kAxes = {"pp", "dp_replicate", "dp_shard", "cp",
                                                            "tp"};

 private:
  int world_size_;
  std::array<int, kAxes.size()> sizes_{};
};

}  // namespace espalier::parallel
