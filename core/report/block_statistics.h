#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "report/run_records.h"

namespace espalier::report {

/// What the page's script draws of statistics.jsonl as heat maps, JSON: [{run, steps, of, blocks:
/// [names in the model's order], quantities: [{key: "gradients.norm", values: [a row a block, null
/// where a step has none]}]}], for the runs that have any; "[]" where none has. Of many steps at
/// most so many, evenly spread, that all runs together have `numbers` values or fewer; of each run
/// at least two steps.
std::string block_statistics(const std::vector<RunRecords>& runs, std::size_t numbers);

}  // namespace espalier::report
