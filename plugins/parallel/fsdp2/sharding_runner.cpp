#include "sharding_runner.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// In place of the index of a group.
constexpr std::int64_t kRoot = -1;
constexpr std::int64_t kHead = -2;

/// The tensors of a block's state that autograd follows, in order.
std::vector<at::Tensor*> followed_tensors(BlockState& state) {
  std::vector<at::Tensor*> followed;
  if (state.hidden.defined() && state.hidden.requires_grad()) followed.push_back(&state.hidden);
  for (auto& [name, tensor] : state.carried) {
    if (tensor.defined() && tensor.requires_grad()) followed.push_back(&tensor);
  }
  return followed;
}

variable_list values_of(const std::vector<at::Tensor*>& places) {
  variable_list values;
  for (const at::Tensor* place : places) values.push_back(*place);
  return values;
}

/// Where a block begins: its inputs pass through, and shards become whole parameters. The backward
/// pass gets here when it is through with the block.
struct Entry : torch::autograd::Function<Entry> {
  static variable_list forward(AutogradContext* context, at::TensorList inputs,
                               at::TensorList shards, at::TensorList wholes, ShardingRunner* runner,
                               std::int64_t group) {
    context->set_materialize_grads(false);
    context->saved_data["runner"] = reinterpret_cast<std::int64_t>(runner);
    context->saved_data["group"] = group;
    context->saved_data["inputs"] = static_cast<std::int64_t>(inputs.size());
    context->saved_data["shards"] = static_cast<std::int64_t>(shards.size());
    variable_list outputs = inputs.vec();
    outputs.insert(outputs.end(), wholes.begin(), wholes.end());
    return outputs;
  }

  /// By reference: the gradients of whole parameters are to be freed as soon as they are copied.
  static variable_list backward(AutogradContext* context, variable_list& gradients) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what autograd saves holds no pointers
    auto* runner = reinterpret_cast<ShardingRunner*>(context->saved_data["runner"].toInt());
    const std::int64_t group = context->saved_data["group"].toInt();
    const auto inputs = static_cast<std::ptrdiff_t>(context->saved_data["inputs"].toInt());
    const auto shards = static_cast<std::size_t>(context->saved_data["shards"].toInt());
    variable_list result(gradients.begin(), gradients.begin() + inputs);
    variable_list of_wholes(std::make_move_iterator(gradients.begin() + inputs),
                            std::make_move_iterator(gradients.end()));
    if (group == kRoot)
      runner->end_root_backward(std::move(of_wholes));
    else if (group == kHead)
      runner->end_head_backward(std::move(of_wholes));
    else
      runner->end_backward(static_cast<std::size_t>(group), std::move(of_wholes));
    // Gradients of the shards arrive by another way: through the ranks.
    result.resize(static_cast<std::size_t>(inputs) + 2 * shards + 2);
    return result;
  }
};

/// Where a block ends: its outputs pass through. The backward pass begins here.
struct Exit : torch::autograd::Function<Exit> {
  static variable_list forward(AutogradContext* context, at::TensorList outputs,
                               ShardingRunner* runner, std::int64_t group) {
    context->set_materialize_grads(false);
    context->saved_data["runner"] = reinterpret_cast<std::int64_t>(runner);
    context->saved_data["group"] = group;
    return outputs.vec();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what autograd saves holds no pointers
    auto* runner = reinterpret_cast<ShardingRunner*>(context->saved_data["runner"].toInt());
    runner->begin_backward(static_cast<std::size_t>(context->saved_data["group"].toInt()));
    gradients.resize(gradients.size() + 2);
    return gradients;
  }
};

/// Autograd finds the tensors of a list in a TensorList alone.
variable_list enter(const variable_list& inputs, const variable_list& shards,
                    const variable_list& wholes, ShardingRunner* runner, std::int64_t group) {
  return Entry::apply(at::TensorList(inputs), at::TensorList(shards), at::TensorList(wholes),
                      runner, group);
}

}  // namespace

ShardingRunner::ShardingRunner(
    std::unique_ptr<ShardedGroup> root,
    std::vector<std::pair<const Block*, std::unique_ptr<ShardedGroup>>>&& groups,
    PrefetchDepth prefetch, RunBlock run_block)
    : root_(std::move(root)), prefetch_(prefetch), run_block_(std::move(run_block)) {
  for (auto& [block, group] : groups) {
    group_of_.emplace(block, groups_.size());
    groups_.push_back(std::move(group));
  }
  in_backward_.resize(groups_.size());
}

void ShardingRunner::expose_root(std::int64_t group) {
  if (root_ == nullptr) return;
  root_->gather();
  variable_list wholes = root_->trained_wholes();
  if (at::GradMode::is_enabled() && !wholes.empty()) {
    if (group == kRoot) ++root_passes_;
    wholes = enter({}, root_->trained_shards(), wholes, this, group);
  }
  root_->set_views(wholes);
}

std::shared_ptr<void> ShardingRunner::head_scope(const std::vector<std::shared_ptr<Parameter>>&) {
  // An entry of its own: the gradient of a weight that embedding and head share then comes in two
  // parts, the first of which is kept when the second is made; autograd would hold both and their
  // sum. And a pass without gradients (a reference model) may have come after the forward pass.
  expose_root(kHead);
  return nullptr;
}

BlockState ShardingRunner::run(Block& block, BlockState state, const BatchContext& context) {
  const auto found = group_of_.find(&block);
  if (found == group_of_.end()) {
    if (!state.hidden.defined() || root_ == nullptr || !root_->gathered()) expose_root(kRoot);
    return block.forward(std::move(state), context);
  }
  const std::size_t index = found->second;
  ShardedGroup& group = *groups_[index];
  group.gather();
  for (std::size_t i = 1; i <= prefetch_.forward && index + i < groups_.size(); ++i)
    groups_[index + i]->start_gather();

  variable_list wholes = group.trained_wholes();
  const std::vector<at::Tensor*> inputs = followed_tensors(state);
  const bool records = at::GradMode::is_enabled();
  if (records && (!inputs.empty() || !wholes.empty())) {
    const variable_list outputs = enter(values_of(inputs), group.trained_shards(), wholes, this,
                                        static_cast<std::int64_t>(index));
    for (std::size_t i = 0; i < inputs.size(); ++i) *inputs[i] = outputs[i];
    wholes.assign(outputs.begin() + static_cast<std::ptrdiff_t>(inputs.size()), outputs.end());
  }
  group.set_views(wholes);
  state = run_block_(block, std::move(state), context);
  group.clear_views();

  const std::vector<at::Tensor*> followed = followed_tensors(state);
  if (records && !followed.empty()) {
    const variable_list ends = values_of(followed);
    const variable_list outputs =
        Exit::apply(at::TensorList(ends), this, static_cast<std::int64_t>(index));
    for (std::size_t i = 0; i < followed.size(); ++i) *followed[i] = outputs[i];
  }
  if (group.reshard_after_forward()) group.free();
  return state;
}

void ShardingRunner::begin_backward(std::size_t index) {
  groups_[index]->gather();
  ++in_backward_[index];
  for (std::size_t i = 1; i <= prefetch_.backward && i <= index; ++i)
    groups_[index - i]->start_gather();
}

void ShardingRunner::end_backward(std::size_t index, std::vector<at::Tensor> gradients) {
  ShardedGroup& group = *groups_[index];
  // Several passes through a block may be in one backward pass; the last frees.
  if (in_backward_[index] > 0 && --in_backward_[index] == 0) group.free();
  if (gradients.empty()) return;
  // One reduction travels while the next block computes; more would hold more memory.
  if (reduce_ && reducing_ != nullptr && reducing_ != &group) reducing_->finish_reduce();
  group.add_gradients(std::move(gradients), reduce_);
  if (reduce_) reducing_ = &group;
}

void ShardingRunner::end_root_backward(std::vector<at::Tensor> gradients) {
  // The end of the last pass of a step: nothing needs the root any more.
  if (--root_passes_ == 0 && reduce_) root_->free();
  root_->add_gradients(std::move(gradients), reduce_);
}

void ShardingRunner::end_head_backward(std::vector<at::Tensor> gradients) {
  root_->add_gradients(std::move(gradients), /*reduce=*/false);
}

void ShardingRunner::finish_step() {
  free_all();
  for (const auto& group : groups_) group->finish_step();
  if (root_ != nullptr) root_->finish_step();
  reducing_ = nullptr;
}

void ShardingRunner::free_all() {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    in_backward_[i] = 0;
    groups_[i]->free();
  }
  root_passes_ = 0;
  if (root_ != nullptr) {
    root_->clear_views();
    root_->free();
  }
}

}  // namespace espalier
