#pragma once

#include <functional>
#include <optional>
#include <string>

namespace espalier::launch {

/// Which of the processes of a run this one is, as whatever started it says.
struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;                        ///< among the processes of this host
  int local_world_size = 1;                  ///< processes on this host
  std::string master_address = "127.0.0.1";  ///< of rank 0, which keeps the store
  int master_port = 29500;
  /// A socket of rank 0 that listens already, handed down by the launcher.
  std::optional<int> listen_descriptor;
  /// The launcher keeps the store itself (torchrun's agent): rank 0 connects to it as well.
  bool store_is_outside = false;
  std::string source = "alone";  ///< "torchrun", "Open MPI", "Slurm", ... for messages
};

/// Value of an environment variable, or nullptr.
using EnvironmentLookup = std::function<const char*(const char*)>;

/// Reads RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun and
/// --nproc-per-node), else OMPI_COMM_WORLD_*, else SLURM_* of an srun step; without any of them the
/// process is alone. Throws Error(kBadInput) with everything that is missing or contradicts itself.
RankEnvironment read_rank_environment(const EnvironmentLookup& lookup);
RankEnvironment read_rank_environment();

/// First host of a Slurm node list: "node[03-05,9],gpu1" -> "node03".
std::string first_slurm_host(const std::string& list);

}  // namespace espalier::launch
