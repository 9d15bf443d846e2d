#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/train/train_step.h"
#include "espalier/base/error.h"

namespace espalier {

/// The first of the parameters whose value is no finite number everywhere.
std::optional<std::string> parameter_that_is_not_finite(
    const std::vector<std::shared_ptr<Parameter>>& parameters);

/// What went wrong in a step whose loss or gradient norm is not finite: the step, the tensors (a
/// weight, an activation, gradients) and the samples. Computes the micro-batches of the step again,
/// and takes the gradients of the parameters, which hold those of the step at the call. Called by
/// all ranks; what the first rank that knows something found is said on every rank.
Error non_finite_error(const TrainingParts& parts, const StepBatches& batches,
                       const StepMetrics& metrics);

}  // namespace espalier
