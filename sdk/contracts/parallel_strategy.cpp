#include "espalier/sdk/parallel_strategy.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>

namespace espalier {

void ParallelStrategy::set_up(World& world) { world_ = &world; }

void ParallelStrategy::check(Model&, ProblemList&) {}

DataShare ParallelStrategy::data_share() const { return {}; }

void ParallelStrategy::begin_micro_batch(bool) {}

double ParallelStrategy::gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  return local_gradient_norm(parameters);
}

void ParallelStrategy::sum_over_data(const at::Tensor&) {}

void ParallelStrategy::parameters_changed() {}

ParameterLayout ParallelStrategy::layout(const Parameter& parameter) const {
  return whole_layout(parameter, world_ == nullptr || world_->rank() == 0);
}

double local_gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    const at::Tensor& gradient = parameter->value().grad();
    if (gradient.defined() && gradient.numel() > 0) gradients.push_back(gradient);
  }
  double sum = 0;
  if (gradients.empty()) return sum;
  // One transfer for all: each on its own would wait for the device.
  const at::Tensor norms = at::stack(at::_foreach_norm(gradients, 2, at::kDouble)).cpu();
  const double* value = norms.const_data_ptr<double>();
  for (std::int64_t i = 0; i < norms.numel(); ++i) sum += value[i] * value[i];
  return std::sqrt(sum);
}

ParameterLayout whole_layout(const Parameter& parameter, bool writes) {
  const std::vector<std::int64_t> shape = parameter.value().sizes().vec();
  const std::vector<std::int64_t> zeros(shape.size(), 0);
  return {{{zeros, shape, zeros}}, writes};
}

}  // namespace espalier
