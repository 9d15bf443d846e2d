#pragma once

#include <functional>

#include "espalier/sdk/communicator.h"

namespace espalier {

/// Lets all ranks of a run decide together, so that none waits for another that went another way.
/// Every method is called by all ranks, in the same order.
class RankAgreement {
 public:
  explicit RankAgreement(World& world) : world_(world) {}

  bool is_first() const { return world_.rank() == 0; }
  World& world() const { return world_; }
  /// Whether any rank says so.
  bool any(bool says) const;
  /// Every rank does its part of `what`; returns when all have. A failure of one is one of all: it
  /// throws its own Error there and Error(kPeerFailed) on the others.
  void on_all(const char* what, const std::function<void()>& work) const;
  /// The same, with work for rank 0 alone.
  void on_first(const char* what, const std::function<void()>& work) const;

 private:
  World& world_;
};

}  // namespace espalier
