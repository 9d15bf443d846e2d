#include "engine/train/optimizer_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/empty.h>
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
                                       const std::vector<ParameterGroupConfig>& groups, Ranks ranks)
    : optimizer_(std::move(optimizer)),
      parameters_(std::move(parameters)),
      specs_(optimizer_->state_specs()),
      whole_(*optimizer_, parameters_, ranks) {
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
      wanted.weight_decay =
          config.weight_decay.value_or(optimizer_->weight_decay()) * config.weight_decay_multiplier;
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
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const at::Tensor model = state_model(i);
      list.push_back(model.defined()
                         ? make_state(optimizer_->state_of(spec, parameters_[i]->spec()), model)
                         : at::Tensor());
    }
  }
}

at::Tensor ParameterOptimizer::state_model(std::size_t parameter) const {
  at::Tensor value = parameters_[parameter]->value().detach();
  if (!whole_.contains(parameter)) return value;
  if (!whole_.owns(parameter)) return {};
  return at::empty({1}, value.options()).expand(parameters_[parameter]->spec().shape());
}

OptimizerUpdate ParameterOptimizer::update_of(const Group& group, bool with_gradients) const {
  OptimizerUpdate update;
  update.weight_decay = group.weight_decay;
  update.states.resize(specs_.size());
  for (const std::size_t member : group.members) {
    if (whole_.contains(member)) continue;
    const at::Tensor& value = parameters_[member]->value();
    if (with_gradients && !value.grad().defined()) continue;
    update.parameters.push_back(value);
    if (with_gradients) update.gradients.push_back(value.grad());
    update.specs.push_back(&parameters_[member]->spec());
    for (std::size_t s = 0; s < specs_.size(); ++s) update.states[s].push_back(states_[s][member]);
  }
  return update;
}

void ParameterOptimizer::step(std::int64_t step, double lr) {
  const at::NoGradGuard no_grad;
  create_state();
  for (const Group& group : groups_) {
    OptimizerUpdate update = update_of(group, /*with_gradients=*/true);
    update.step = step;
    update.lr = lr * group.lr_multiplier;
    if (!update.parameters.empty()) optimizer_->update(update);
  }
  update_whole(step, lr);
  clear_gradients();
}

void ParameterOptimizer::update_whole(std::int64_t step, double lr) {
  std::vector<const Group*> group_of(parameters_.size());
  for (const Group& group : groups_)
    for (const std::size_t member : group.members) group_of[member] = &group;
  whole_.run(parameters_, [&](std::size_t i, const at::Tensor& value, const at::Tensor& gradient) {
    OptimizerUpdate update;
    update.parameters = {value};
    update.gradients = {gradient};
    for (const std::vector<at::Tensor>& states : states_) update.states.push_back({states[i]});
    update.step = step;
    update.lr = lr * group_of[i]->lr_multiplier;
    update.weight_decay = group_of[i]->weight_decay;
    update.specs = {&parameters_[i]->spec()};
    optimizer_->update(update);
  });
}

void ParameterOptimizer::clear_gradients() {
  for (const auto& parameter : parameters_) parameter->value().mutable_grad().reset();
}

std::vector<ParameterOptimizer::StateTensor> ParameterOptimizer::state_tensors() const {
  std::vector<StateTensor> tensors;
  for (std::size_t s = 0; s < states_.size(); ++s) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!states_[s][i].defined()) continue;
      const OptimizerStateSpec own = optimizer_->state_of(specs_[s], parameters_[i]->spec());
      using Held = StateTensor::Held;
      Held held = own.layout == OptimizerStateSpec::Layout::kLikeParameter ? Held::kLikeParameter
                                                                           : Held::kByAll;
      if (whole_.contains(i)) held = Held::kHere;
      tensors.push_back({specs_[s].name + "." + parameters_[i]->name(), states_[s][i],
                         parameters_[i].get(), held});
    }
  }
  if (!optimizer_->has_eval_point() || states_.empty()) return tensors;
  // Read from a checkpoint after the parameters, it takes the place of the point that those hold.
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    tensors.push_back({"training_point." + parameters_[i]->name(),
                       training_point_.empty() ? parameters_[i]->value() : training_point_[i],
                       parameters_[i].get(), StateTensor::Held::kLikeParameter});
  }
  return tensors;
}

ParameterOptimizer::EvalPoint::EvalPoint(ParameterOptimizer& optimizer)
    : optimizer_(optimizer.has_eval_point() && !optimizer.states_.empty() ? &optimizer : nullptr) {
  if (optimizer_ == nullptr) return;
  const at::NoGradGuard no_grad;
  for (const auto& parameter : optimizer.parameters_)
    optimizer.training_point_.push_back(parameter->value().detach().clone());
  for (const Group& group : optimizer.groups_) {
    OptimizerUpdate update = optimizer.update_of(group, /*with_gradients=*/false);
    if (!update.parameters.empty()) optimizer.optimizer_->to_eval_point(update);
  }
}

ParameterOptimizer::EvalPoint::~EvalPoint() {
  if (optimizer_ == nullptr) return;
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < optimizer_->parameters_.size(); ++i)
    optimizer_->parameters_[i]->value().copy_(optimizer_->training_point_[i]);
  optimizer_->training_point_.clear();
}

std::map<std::string, at::Tensor> ParameterOptimizer::state() const {
  std::map<std::string, at::Tensor> tensors;
  for (StateTensor& state : state_tensors()) tensors.emplace(state.name, std::move(state.tensor));
  return tensors;
}

std::int64_t ParameterOptimizer::state_bytes() const {
  std::int64_t bytes = 0;
  for (const OptimizerStateSpec& spec : specs_) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const OptimizerStateSpec own = optimizer_->state_of(spec, parameters_[i]->spec());
      const at::Tensor model = state_model(i);
      if (own.layout == OptimizerStateSpec::Layout::kNone || !model.defined()) continue;
      std::int64_t elements = 1;
      for (const std::int64_t size : state_shape(own, model.sizes())) elements *= size;
      bytes += elements *
               static_cast<std::int64_t>(at::elementSize(own.dtype.value_or(model.scalar_type())));
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
