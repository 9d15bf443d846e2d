#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/base/api.h"

namespace espalier::nn {

/// Attention with linear biases: what is added to the scores of the key at each position, [heads,
/// positions] float32. Slopes fall geometrically over the heads; products are rounded to bfloat16,
/// as in the models that were trained so. Press et al. 2021, "Train Short, Test Long".
ESPALIER_API at::Tensor alibi_bias(std::int64_t heads, std::int64_t positions);

}  // namespace espalier::nn
