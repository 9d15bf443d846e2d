#pragma once

#include <string>
#include <vector>

namespace espalier::launch {

/// How the processes of this host are started.
struct LaunchOptions {
  int processes = 1;                 ///< on this host
  int nodes = 1;                     ///< hosts of the run
  int node_rank = 0;                 ///< which of them this is
  std::string master_address;        ///< of node 0; needed with several nodes
  int master_port = 0;               ///< 0: chosen by the system; needed with several nodes
  std::vector<std::string> command;  ///< program and arguments of every process
};

/// Starts the processes, each with its rank in the environment, and returns when all have ended.
/// Rank 0 writes to this process's output as it is; lines of the others, and all errors, are
/// written with the rank in front. Signals that ask to stop are passed on. When a process fails,
/// the others get a moment to notice and are then ended. Returns 0, or the exit code of the first
/// that failed (75 when a signal stopped the run); throws Error(kPeerFailed) when that one was
/// killed by a signal, and Error(kIo) when a process can't be started.
int run_processes(const LaunchOptions& options);

}  // namespace espalier::launch
