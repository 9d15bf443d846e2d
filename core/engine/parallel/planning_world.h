#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// Bytes that rank 0 sends, by kind of collective and what for: "all_gather model.layers.0".
struct CommunicationVolume {
  std::map<std::string, std::int64_t> bytes;  ///< by kind
  std::map<std::string, std::int64_t> calls;  ///< by kind
  std::int64_t total() const;
};

/// Rank 0 of a world of any size, of which there is no other rank: collectives return at once with
/// values that have the right shapes (each other rank seems to hold what this one does) and are
/// counted as a ring would send them.
class PlanningWorld final : public World {
 public:
  explicit PlanningWorld(int size);

  const std::shared_ptr<Communicator>& all() override { return all_; }
  std::shared_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& ranks) override;

  const CommunicationVolume& volume() const { return *volume_; }
  void reset_volume() { *volume_ = {}; }

 private:
  std::shared_ptr<CommunicationVolume> volume_;
  std::shared_ptr<Communicator> all_;
};

}  // namespace espalier
