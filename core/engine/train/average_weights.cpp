#include "engine/train/average_weights.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <utility>

namespace espalier {

AverageWeights::AverageWeights(std::vector<std::shared_ptr<Parameter>> parameters, double decay)
    : parameters_(std::move(parameters)), decay_(decay) {
  reset();
}

void AverageWeights::reset() {
  const at::NoGradGuard no_grad;
  averages_.clear();
  for (const auto& parameter : parameters_)
    averages_.push_back(parameter->value().detach().to(at::kFloat, /*non_blocking=*/false,
                                                       /*copy=*/true));
}

void AverageWeights::update() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor weight = parameters_[i]->value().detach().to(at::kFloat);
    averages_[i].lerp_(weight, 1.0 - decay_);
  }
}

AverageInPlace::AverageInPlace(const AverageWeights& average, ParallelStrategy* strategy)
    : average_(average), strategy_(strategy) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < average_.parameters().size(); ++i) {
    // In place: strategies may have hooks on the leaves.
    const at::Tensor value = average_.parameters()[i]->value().detach();
    weights_.push_back(value.clone());
    value.copy_(average_.averages()[i]);
  }
  if (strategy_ != nullptr) strategy_->parameters_changed();
}

AverageInPlace::~AverageInPlace() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < weights_.size(); ++i)
    average_.parameters()[i]->value().detach().copy_(weights_[i]);
  if (strategy_ != nullptr) strategy_->parameters_changed();
}

}  // namespace espalier
