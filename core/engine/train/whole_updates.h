#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "espalier/sdk/optimizer.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// What spreads a run over ranks; borrowed. Both nullptr: one process holds everything.
struct Ranks {
  ParallelStrategy* strategy = nullptr;
  World* world = nullptr;
};

/// Updates of cut parameters by rules that look at whole ones (OptimizerNeed::kWhole). Each such
/// parameter belongs to one rank of the world, which holds its state and updates it; the others
/// update theirs meanwhile. The numbers are those of one process, whatever the rule, and a
/// checkpoint has the state in one piece.
///
/// Memory of a rank: state of about 1 / n of these parameters; during the update a parameter with
/// its gradient, and another in transit. Communication of a step: two all-gathers of them, of
/// gradients and values, and a broadcast.
class WholeUpdates {
 public:
  WholeUpdates() = default;
  /// Throws Error(kUnsupported) where the rule also trains at another point than its result.
  WholeUpdates(const Optimizer& optimizer,
               const std::vector<std::shared_ptr<Parameter>>& parameters, Ranks ranks);

  /// Whether the parameter with this index is updated so.
  bool contains(std::size_t index) const { return !owners_.empty() && owners_[index] >= 0; }
  /// Whether it is this rank's.
  bool owns(std::size_t index) const;

  /// Called with what belongs to this rank: index, whole value to be changed in place, gradient.
  using Update = std::function<void(std::size_t, const at::Tensor&, const at::Tensor&)>;
  /// Parameters without a gradient are left out; collective.
  void run(const std::vector<std::shared_ptr<Parameter>>& parameters, const Update& update) const;

 private:
  void run_turn(const std::vector<std::shared_ptr<Parameter>>& parameters,
                const std::vector<std::size_t>& turn, const Update& update) const;

  Ranks ranks_;
  std::vector<int> owners_;                      ///< rank by parameter; -1: updated as it is held
  std::vector<std::vector<std::size_t>> turns_;  ///< at most one parameter of each rank
};

}  // namespace espalier
