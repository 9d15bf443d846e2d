#include "espalier/sdk/parallel_strategy.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/ops/parallel_for.h"

namespace espalier {

void ParallelStrategy::set_up(World& world) { world_ = &world; }

void ParallelStrategy::check(Model&, ProblemList&) {}

DataShare ParallelStrategy::data_share() const { return {}; }

void ParallelStrategy::begin_micro_batch(bool) {}

double ParallelStrategy::gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  return local_gradient_norm(parameters);
}

at::Device ParallelStrategy::leaf_device(const Parameter&, at::Device device) const {
  return device;
}

void ParallelStrategy::sum_over_data(const at::Tensor&) {}

void ParallelStrategy::parameters_changed() {}

ParameterLayout ParallelStrategy::layout(const Parameter& parameter) const {
  return whole_layout(parameter, world_ == nullptr || world_->rank() == 0);
}

at::Tensor ParallelStrategy::whole(const Parameter& parameter, const at::Tensor& local) {
  const std::vector<std::int64_t> shape = parameter.spec().shape();
  if (local.sizes() == at::IntArrayRef(shape)) return local;
  throw Error(Problem{ErrorCode::kUnsupported,
                      "the strategy cuts '" + parameter.name() + "' and can't put it together",
                      c10::str(local.sizes()), c10::str(at::IntArrayRef(shape)), "[distributed]",
                      "the strategy has to override ParallelStrategy::whole"});
}

namespace {

constexpr std::int64_t kChunk = 65536;
constexpr std::int64_t kSums = 16;  // side by side, so that they are vectors

double sum_of_chunk(const float* values, std::int64_t size) {
  double sums[kSums] = {};
  std::int64_t i = 0;
  for (; i + kSums <= size; i += kSums) {
    for (std::int64_t j = 0; j < kSums; ++j) {
      const double value = values[i + j];
      sums[j] += value * value;
    }
  }
  for (; i < size; ++i) sums[0] += static_cast<double>(values[i]) * values[i];
  return std::accumulate(std::begin(sums), std::end(sums), 0.0);
}

/// In double, in chunks whose sums are added in order: the same whatever the number of threads.
/// LibTorch's norm of float32 in double makes a copy in double first.
double sum_of_squares(const float* values, std::int64_t size) {
  std::vector<double> sums(static_cast<std::size_t>((size + kChunk - 1) / kChunk));
  ops::parallel_for(0, static_cast<std::int64_t>(sums.size()), 1,
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t i = begin; i < end; ++i) {
                        sums[static_cast<std::size_t>(i)] =
                            sum_of_chunk(values + i * kChunk, std::min(kChunk, size - i * kChunk));
                      }
                    });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

double local_gradient_norm(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  std::vector<at::Tensor> on_host;
  double own = 0;
  for (const auto& parameter : parameters) {
    const at::Tensor& gradient = parameter->value().grad();
    if (!gradient.defined() || gradient.numel() == 0) continue;
    if (gradient.is_cpu() && gradient.scalar_type() == at::kFloat && gradient.is_contiguous())
      own += sum_of_squares(gradient.const_data_ptr<float>(), gradient.numel());
    else
      (gradient.is_cpu() ? on_host : gradients).push_back(gradient);
  }
  for (const std::vector<at::Tensor>& some : {on_host, gradients}) {
    if (some.empty()) continue;
    // One transfer for all: each on its own would wait for the device.
    const at::Tensor norms = at::stack(at::_foreach_norm(some, 2, at::kDouble)).cpu();
    const double* value = norms.const_data_ptr<double>();
    for (std::int64_t i = 0; i < norms.numel(); ++i) own += value[i] * value[i];
  }
  return std::sqrt(own);
}

ParameterLayout whole_layout(const Parameter& parameter, bool writes) {
  const std::vector<std::int64_t> shape = parameter.value().sizes().vec();
  const std::vector<std::int64_t> zeros(shape.size(), 0);
  return {{{zeros, shape, zeros}}, writes};
}

}  // namespace espalier
