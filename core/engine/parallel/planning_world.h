#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// A collective of the planned rank: when it was begun and waited for, in seconds of this machine's
/// computing, and what a ring would send for it.
struct PlannedCollective {
  std::string kind;  ///< "all_gather"
  std::string what;  ///< "model.layers.0"
  std::int64_t bytes = 0;
  double begun = 0;
  double awaited = -1;  ///< -1: never
};

/// What the planned rank sends.
struct CommunicationVolume {
  std::map<std::string, std::int64_t> bytes;  ///< by kind of collective
  std::map<std::string, std::int64_t> calls;  ///< by kind
  std::vector<PlannedCollective> collectives;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::int64_t total() const;
};

/// A rank of a world of any size, of which there is no other rank: collectives return at once with
/// values that have the right shapes (each other rank seems to hold what this one does) and are
/// counted as a ring would send them.
class PlanningWorld final : public World {
 public:
  explicit PlanningWorld(int size, int rank = 0);

  const std::shared_ptr<Communicator>& all() override { return all_; }
  std::shared_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& ranks) override;

  const CommunicationVolume& volume() const { return *volume_; }
  /// Counting, and time, begin anew.
  void reset_volume() { *volume_ = {}; }

 private:
  int rank_;
  std::shared_ptr<CommunicationVolume> volume_;
  std::shared_ptr<Communicator> all_;
};

}  // namespace espalier
