#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "espalier/base/api.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// What a parameter starts with where no checkpoint gives it a value, on the CPU. A function of the
/// spec, `seed` and the parameter's name alone, whatever else a model or a rank holds.
ESPALIER_API at::Tensor initial_value(const ParameterSpec& spec, at::ScalarType dtype,
                                      std::uint64_t seed);

}  // namespace espalier
