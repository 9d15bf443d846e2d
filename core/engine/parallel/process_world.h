#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/parallel/peer_monitor.h"
#include "espalier/sdk/communicator.h"
#include "launch/rank_environment.h"

namespace espalier {

/// The processes of a run, connected: a TCP store kept by rank 0, and groups made by a backend.
/// Failures of collectives are explained by whom they waited for.
class ProcessWorld final : public World {
 public:
  /// Returns when all ranks are there. Throws Error(kPeerFailed) naming those that did not come.
  ProcessWorld(const launch::RankEnvironment& environment, std::shared_ptr<CommBackend> backend);
  ~ProcessWorld() override;

  const std::shared_ptr<Communicator>& all() override { return all_; }
  std::shared_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& ranks) override;

  void begin_step(std::int64_t step) override { monitor_->set_step(step); }
  /// Tells the others why this rank ends. Connections then stay open until the process is gone:
  /// closing them would wait for what the others no longer do.
  void abandon(const Error& error);
  /// Waits for all ranks at the end of a run that went well.
  void finish();

 private:
  void join(int rank, int size);

  launch::RankEnvironment environment_;
  std::shared_ptr<CommBackend> backend_;
  c10::intrusive_ptr<c10d::Store> store_;
  std::shared_ptr<PeerMonitor> monitor_;
  std::vector<std::string> hosts_;  ///< of each rank
  std::string address_;
  std::vector<std::shared_ptr<Communicator>> groups_;
  std::shared_ptr<Communicator> all_;
};

/// Runs `work` in the world that the environment describes, alone or with other processes, and sees
/// to it that all of them learn of its end. `backend` is asked for where there are others. Returns
/// what `work` returns.
int run_in_world(const launch::RankEnvironment& environment,
                 const std::function<std::shared_ptr<CommBackend>()>& backend,
                 const std::function<int(World& world)>& work);

}  // namespace espalier
