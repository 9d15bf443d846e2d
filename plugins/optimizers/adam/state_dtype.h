#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "espalier/sdk/optimizer.h"

namespace espalier {

/// Updates parameters whose state has another dtype than they: `update_part` gets a million
/// elements at a time as float32 tensors of equal length, parameter, gradient and one a state, and
/// changes parameter and states in place. What becomes bfloat16 state is rounded up or down by
/// chance, so that changes below its precision add up over steps; what is drawn depends on
/// parameter, state, step and element. On the CPU.
void update_in_float(OptimizerUpdate& update,
                     const std::function<void(OptimizerUpdate& part)>& update_part);

/// Rounds values [n] float32 into `out` [n] bfloat16, upwards with the probability that keeps the
/// mean. Element i draws by `key` and `first + i`.
void round_by_chance(const at::Tensor& values, std::uint64_t key, std::int64_t first,
                     const at::Tensor& out);

}  // namespace espalier
