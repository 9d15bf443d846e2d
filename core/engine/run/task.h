#pragma once

#include <cstdint>
#include <string>

#include "espalier/base/value.h"
#include "espalier/nn/task_head.h"

namespace espalier {

using nn::Task;

/// "causal_lm", "sequence_classification", ...
std::string task_name(Task task);

/// `requested` as in the recipe; "auto": by the class that `architectures` of the config names.
Task task_of(const std::string& requested, const Value& config);

/// `num_labels`, or the length of `id2label`, or 2 as transformers has it. Error(kBadInput) when it
/// is no number above zero.
std::int64_t label_count(const Value& config);

/// `config` as the class of transformers for the task would be saved: its architecture, and names
/// for labels that have none.
Value config_for_task(Value config, Task task, std::int64_t num_labels);

}  // namespace espalier
