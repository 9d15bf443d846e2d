#pragma once

#include <string>
#include <vector>

#include "report/run_records.h"

namespace espalier::report {

/// Texts that the models wrote at validations, by prompt: the latest of each run, and the earlier
/// ones folded away. Of many, as many steps as fit `bytes`, the first and the last among them; says
/// so. Empty where no run has any.
std::string sample_cards(const std::vector<RunRecords>& runs, const std::vector<std::string>& names,
                         std::size_t bytes);

}  // namespace espalier::report
