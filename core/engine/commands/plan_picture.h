#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/parallel/planning_world.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// A parameter of the model as the picture shows it.
struct PlannedParameter {
  std::string block;  ///< of the tower; empty: of no block
  std::vector<std::int64_t> shape;
  std::int64_t bytes = 0;  ///< whole
};

/// What one rank has at its peak.
struct RankPlan {
  int rank = 0;
  std::vector<ParameterLayout> layouts;  ///< of each parameter
  std::int64_t parameters = 0;           ///< these in bytes
  std::int64_t gradients = 0;
  std::int64_t optimizer = 0;
  std::int64_t activations = 0;
  std::int64_t buffers = 0;  ///< gathered parameters, collectives
};

struct PlanPictureInput {
  std::string title;
  std::vector<PlannedParameter> parameters;
  std::vector<RankPlan> ranks;  ///< some of them, rising
  int world_size = 1;
  std::vector<PlannedCollective> collectives;  ///< of a step of rank 0
  double step_seconds = 0;                     ///< that it computed
  double bytes_per_second = 1;                 ///< of the network
};

/// An SVG of who holds what and when: the model over the ranks, the memory of each, and a step with
/// a block in it, larger. Collectives are drawn as a network of that bandwidth carries them, one
/// after the other; computing waits where it waits for them.
std::string plan_picture(const PlanPictureInput& input);

}  // namespace espalier
