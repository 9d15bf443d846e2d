#pragma once

#include <set>
#include <string>

#include "sharing_plan.h"

namespace espalier {

/// Adds problems with what no plan helps against: a model whose layers can't be divided, a router
/// under sequence parallelism. `shares_layers`: the plan cuts linears of the layers.
void check_shared_models(Model& model, const SharingRanks& ranks, bool shares_layers,
                         ProblemList& problems);

/// Adds problems with sizes that the ranks don't divide. `families` are those that are shared.
void check_sizes(Model& model, const SharingRanks& ranks, const SharingPlan& plan,
                 const std::set<std::string>& families, ProblemList& problems);

/// Adds problems with what adapters have put on shared modules and can't be shared.
void check_adapters(Model& model, const SharingPlan& plan, ProblemList& problems);

}  // namespace espalier
