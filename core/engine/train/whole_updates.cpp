#include "engine/train/whole_updates.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "engine/parallel/shard_pieces.h"
#include "espalier/base/error.h"

namespace espalier {
namespace {

std::int64_t elements(const Parameter& parameter) {
  std::int64_t count = 1;
  for (const std::int64_t size : parameter.spec().shape()) count *= size;
  return count;
}

/// A rank may hold nothing of a parameter and the others rows: what is cut has to be the same
/// everywhere, so the strategy is asked on all ranks together.
std::vector<std::size_t> cut_parameters(const std::vector<std::shared_ptr<Parameter>>& parameters,
                                        World& world) {
  at::Tensor flags = at::empty({static_cast<std::int64_t>(parameters.size())},
                               at::TensorOptions().dtype(at::kInt));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::vector<std::int64_t> whole = parameters[i]->spec().shape();
    const bool cut = parameters[i]->value().sizes() != at::IntArrayRef(whole);
    flags.data_ptr<int>()[i] = cut ? 1 : 0;
  }
  world.all()->all_reduce(flags, "which parameters are cut")->wait();
  std::vector<std::size_t> cut;
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (flags.data_ptr<int>()[i] != 0) cut.push_back(i);
  return cut;
}

}  // namespace

WholeUpdates::WholeUpdates(const Optimizer& optimizer,
                           const std::vector<std::shared_ptr<Parameter>>& parameters, Ranks ranks)
    : ranks_(ranks) {
  if (ranks_.strategy == nullptr || ranks_.world->size() == 1) return;
  if (std::none_of(parameters.begin(), parameters.end(), [&](const auto& parameter) {
        return optimizer.need_of(parameter->spec()) == OptimizerNeed::kWhole;
      }))
    return;
  std::vector<std::size_t> cut;
  for (const std::size_t i : cut_parameters(parameters, *ranks_.world))
    if (optimizer.need_of(parameters[i]->spec()) == OptimizerNeed::kWhole) cut.push_back(i);
  if (cut.empty()) return;
  if (optimizer.has_eval_point()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "the optimizer looks at whole parameters and trains at another point than "
                        "its result: the strategy can't cut them",
                        parameters[cut.front()]->name(),
                        {},
                        "[optimizer] and [distributed]",
                        "take a strategy that keeps parameters whole, or another optimizer"});
  }
  // The largest first, each to the rank that has least.
  std::stable_sort(cut.begin(), cut.end(), [&](std::size_t a, std::size_t b) {
    return elements(*parameters[a]) > elements(*parameters[b]);
  });
  owners_.assign(parameters.size(), -1);
  std::vector<std::int64_t> held(static_cast<std::size_t>(ranks_.world->size()));
  std::vector<std::size_t> turns(held.size());
  for (const std::size_t i : cut) {
    const auto least =
        static_cast<std::size_t>(std::min_element(held.begin(), held.end()) - held.begin());
    owners_[i] = static_cast<int>(least);
    held[least] += elements(*parameters[i]);
    if (turns[least] == turns_.size()) turns_.emplace_back();
    turns_[turns[least]++].push_back(i);
  }
}

bool WholeUpdates::owns(std::size_t index) const {
  return contains(index) && owners_[index] == ranks_.world->rank();
}

void WholeUpdates::run(const std::vector<std::shared_ptr<Parameter>>& parameters,
                       const Update& update) const {
  for (const std::vector<std::size_t>& turn : turns_) run_turn(parameters, turn, update);
}

void WholeUpdates::run_turn(const std::vector<std::shared_ptr<Parameter>>& parameters,
                            const std::vector<std::size_t>& turn, const Update& update) const {
  at::Tensor own;
  std::vector<std::size_t> updated;
  at::Tensor own_gradient;
  std::size_t own_index = 0;
  for (const std::size_t i : turn) {
    const at::Tensor& value = parameters[i]->value();
    if (!value.grad().defined()) continue;
    updated.push_back(i);
    at::Tensor gradient = ranks_.strategy->whole(*parameters[i], value.grad());
    value.mutable_grad().reset();
    at::Tensor whole = ranks_.strategy->whole(*parameters[i], value.detach());
    if (!owns(i)) continue;
    own = std::move(whole);
    own_gradient = std::move(gradient);
    own_index = i;
  }
  if (own.defined()) update(own_index, own, own_gradient);
  own_gradient.reset();
  for (const std::size_t i : updated) {
    const at::Tensor& value = parameters[i]->value();
    const at::Tensor whole =
        owns(i) ? own : at::empty(parameters[i]->spec().shape(), value.detach().options());
    ranks_.world->all()->broadcast(whole, owners_[i], "an updated parameter")->wait();
    copy_pieces(whole, ranks_.strategy->layout(*parameters[i]), value.detach());
  }
}

}  // namespace espalier
