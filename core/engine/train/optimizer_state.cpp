#include "engine/train/optimizer_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier {
namespace {

bool matches(const std::string& name, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

void check_patterns(const ParameterGroupConfig& group,
                    const std::vector<std::shared_ptr<Parameter>>& parameters) {
  for (const std::string& pattern : group.patterns) {
    std::vector<std::string> names;
    names.reserve(parameters.size());
    for (const auto& parameter : parameters) names.push_back(parameter->name());
    if (std::any_of(names.begin(), names.end(),
                    [&](const auto& name) { return matches(name, {pattern}); }))
      continue;
    std::string hint = did_you_mean(pattern, names);
    if (hint.empty())
      hint = "the names are those of the checkpoint, e.g. " + (names.empty() ? "" : names.front());
    throw_bad_input("a pattern of optimizer.param_groups matches no trainable parameter", pattern,
                    "a parameter name with '*' and '?' as wildcards", "optimizer.param_groups",
                    hint);
  }
}

std::vector<at::Tensor> gradients_of(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter->value().grad().defined()) gradients.push_back(parameter->value().grad());
  }
  return gradients;
}

}  // namespace

ParameterOptimizer::ParameterOptimizer(std::shared_ptr<Optimizer> optimizer,
                                       std::vector<std::shared_ptr<Parameter>> parameters,
                                       const std::vector<ParameterGroupConfig>& groups)
    : optimizer_(std::move(optimizer)),
      parameters_(std::move(parameters)),
      specs_(optimizer_->state_specs()) {
  make_groups(groups);
}

void ParameterOptimizer::make_groups(const std::vector<ParameterGroupConfig>& further) {
  for (const ParameterGroupConfig& config : optimizer_->groups())
    check_patterns(config, parameters_);
  std::vector<ParameterGroupConfig> configs = optimizer_->groups();
  configs.insert(configs.end(), further.begin(), further.end());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Group wanted{1.0, optimizer_->weight_decay(), parameters_[i]->value().scalar_type(), {}};
    for (const ParameterGroupConfig& config : configs) {
      if (!matches(parameters_[i]->name(), config.patterns)) continue;
      wanted.lr_multiplier = config.lr_multiplier;
      wanted.weight_decay = config.weight_decay.value_or(optimizer_->weight_decay());
      break;
    }
    const auto same = std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) {
      return group.lr_multiplier == wanted.lr_multiplier &&
             group.weight_decay == wanted.weight_decay && group.dtype == wanted.dtype;
    });
    Group& group = same == groups_.end() ? groups_.emplace_back(std::move(wanted)) : *same;
    group.members.push_back(i);
  }
}

void ParameterOptimizer::create_state() {
  if (states_.size() == specs_.size() && !specs_.empty()) return;
  states_.clear();
  for (const OptimizerStateSpec& spec : specs_) {
    std::vector<at::Tensor>& list = states_.emplace_back();
    for (const auto& parameter : parameters_) {
      const at::Tensor& value = parameter->value();
      list.push_back(spec.layout == OptimizerStateSpec::Layout::kScalar
                         ? at::zeros({}, value.options())
                         : at::zeros_like(value));
    }
  }
}

void ParameterOptimizer::step(std::int64_t step, double lr) {
  const at::NoGradGuard no_grad;
  create_state();
  for (const Group& group : groups_) {
    OptimizerUpdate update;
    update.step = step;
    update.lr = lr * group.lr_multiplier;
    update.weight_decay = group.weight_decay;
    update.states.resize(specs_.size());
    for (const std::size_t member : group.members) {
      const at::Tensor& value = parameters_[member]->value();
      if (!value.grad().defined()) continue;
      update.parameters.push_back(value);
      update.gradients.push_back(value.grad());
      for (std::size_t s = 0; s < specs_.size(); ++s)
        update.states[s].push_back(states_[s][member]);
    }
    if (!update.parameters.empty()) optimizer_->update(update);
  }
  clear_gradients();
}

void ParameterOptimizer::clear_gradients() {
  for (const auto& parameter : parameters_) parameter->value().mutable_grad().reset();
}

std::vector<ParameterOptimizer::StateTensor> ParameterOptimizer::state_tensors() const {
  std::vector<StateTensor> tensors;
  for (std::size_t s = 0; s < states_.size(); ++s) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      tensors.push_back({specs_[s].name + "." + parameters_[i]->name(), states_[s][i],
                         parameters_[i].get(),
                         specs_[s].layout == OptimizerStateSpec::Layout::kLikeParameter});
    }
  }
  return tensors;
}

std::map<std::string, at::Tensor> ParameterOptimizer::state() const {
  std::map<std::string, at::Tensor> tensors;
  for (StateTensor& state : state_tensors()) tensors.emplace(state.name, std::move(state.tensor));
  return tensors;
}

void ParameterOptimizer::load_state(std::map<std::string, at::Tensor> state) {
  states_.clear();
  if (state.empty()) return;
  for (const OptimizerStateSpec& spec : specs_) {
    std::vector<at::Tensor>& list = states_.emplace_back();
    for (const auto& parameter : parameters_) {
      const auto found = state.find(spec.name + "." + parameter->name());
      if (found == state.end()) {
        throw_bad_input("the checkpoint has no optimizer state for '" + parameter->name() + "'", {},
                        spec.name, "optimizer.safetensors",
                        "the checkpoint was made with another optimizer; use --resume never");
      }
      list.push_back(found->second.to(parameter->value().device()));
    }
  }
}

std::int64_t ParameterOptimizer::state_bytes() const {
  std::int64_t bytes = 0;
  for (const OptimizerStateSpec& spec : specs_) {
    for (const auto& parameter : parameters_) {
      const bool scalar = spec.layout == OptimizerStateSpec::Layout::kScalar;
      bytes += static_cast<std::int64_t>(scalar ? parameter->value().element_size()
                                                : parameter->value().nbytes());
    }
  }
  return bytes;
}

void clip_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters, double norm,
                    double max_norm) {
  const double scale = max_norm / (norm + 1e-6);
  if (!(scale < 1.0)) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients = gradients_of(parameters);
  at::_foreach_mul_(gradients, at::Scalar(scale));
}

}  // namespace espalier
