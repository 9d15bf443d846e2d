#include "espalier/nn/alibi.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <vector>

namespace espalier::nn {

at::Tensor alibi_bias(std::int64_t heads, std::int64_t positions) {
  std::int64_t power_of_two = 1;
  while (2 * power_of_two <= heads) power_of_two *= 2;
  std::vector<float> slopes;
  const auto base_of = [](std::int64_t count) {
    return static_cast<float>(std::pow(2.0, -8.0 / static_cast<double>(count)));
  };
  for (std::int64_t i = 1; i <= power_of_two; ++i)
    slopes.push_back(std::pow(base_of(power_of_two), static_cast<float>(i)));
  // Heads beyond a power of two take every other slope of the next one.
  for (std::int64_t i = 1; static_cast<std::int64_t>(slopes.size()) < heads; i += 2)
    slopes.push_back(std::pow(base_of(2 * power_of_two), static_cast<float>(i)));
  const at::Tensor of_head = at::tensor(slopes, at::kFloat).to(at::kBFloat16).unsqueeze(1);
  const at::Tensor position = at::arange(positions, at::TensorOptions().dtype(at::kLong));
  return (of_head * position.to(at::kBFloat16)).to(at::kFloat);
}

}  // namespace espalier::nn
