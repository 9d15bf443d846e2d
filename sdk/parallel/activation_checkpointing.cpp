#include "espalier/parallel/activation_checkpointing.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <unordered_set>

namespace espalier::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What is needed to compute a block once more.
struct Recomputation : torch::CustomClassHolder {
  Block* block = nullptr;
  BatchContext context;
  std::vector<std::string> carried_names;  ///< of the inputs after the hidden state
  /// Parameters that a strategy laid a gathered tensor over.
  std::vector<std::shared_ptr<Parameter>> viewed;
};

/// A leaf of the same values, for a graph of its own.
at::Tensor detached(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.detach().requires_grad_(tensor.requires_grad()) : tensor;
}

/// Lays leaves over the viewed parameters while it lives.
class LeafViews {
 public:
  LeafViews(const Recomputation& recomputation, at::ArrayRef<at::Tensor> gathered)
      : viewed_(recomputation.viewed) {
    for (std::size_t i = 0; i < viewed_.size(); ++i) {
      leaves_.push_back(detached(gathered[i]));
      viewed_[i]->set_view(leaves_.back());
    }
  }
  LeafViews(const LeafViews&) = delete;
  LeafViews& operator=(const LeafViews&) = delete;
  ~LeafViews() {
    for (const auto& parameter : viewed_) parameter->set_view({});
  }
  const variable_list& leaves() const { return leaves_; }

 private:
  const std::vector<std::shared_ptr<Parameter>>& viewed_;
  variable_list leaves_;
};

BlockState state_of(const Recomputation& recomputation, at::ArrayRef<at::Tensor> inputs) {
  BlockState state;
  state.hidden = inputs[0];
  for (std::size_t i = 0; i < recomputation.carried_names.size(); ++i)
    state.carried.emplace_back(recomputation.carried_names[i], inputs[i + 1]);
  return state;
}

variable_list tensors_of(const BlockState& state) {
  variable_list tensors = {state.hidden};
  for (const auto& [name, tensor] : state.carried) tensors.push_back(tensor);
  return tensors;
}

/// inputs: the state's tensors; gathered: what lies over `viewed`; anchor: a tensor that makes the
/// result part of the graph where no input is, for the sake of leaves that the block trains.
struct Checkpointed : torch::autograd::Function<Checkpointed> {
  static variable_list forward(AutogradContext* context, at::TensorList inputs,
                               at::TensorList gathered, const at::Tensor& anchor,
                               const c10::intrusive_ptr<Recomputation>& recomputation,
                               std::vector<std::string>* names) {
    (void)anchor;
    context->set_materialize_grads(false);
    variable_list saved = inputs.vec();
    saved.insert(saved.end(), gathered.begin(), gathered.end());
    context->save_for_backward(saved);
    context->saved_data["recomputation"] = c10::IValue::make_capsule(recomputation);
    context->saved_data["inputs"] = static_cast<std::int64_t>(inputs.size());
    const BlockState state =
        recomputation->block->forward(state_of(*recomputation, inputs), recomputation->context);
    for (const auto& [name, tensor] : state.carried) names->push_back(name);
    return tensors_of(state);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto recomputation = c10::static_intrusive_pointer_cast<Recomputation>(
        context->saved_data["recomputation"].toCapsule());
    const auto count = static_cast<std::size_t>(context->saved_data["inputs"].toInt());
    variable_list inputs;
    for (std::size_t i = 0; i < count; ++i) inputs.push_back(detached(saved[i]));
    const LeafViews views(*recomputation, at::ArrayRef<at::Tensor>(saved).slice(count));
    variable_list outputs;
    {
      const at::AutoGradMode grad(true);
      outputs = tensors_of(
          recomputation->block->forward(state_of(*recomputation, inputs), recomputation->context));
    }
    variable_list reached;
    variable_list arriving;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!gradients[i].defined() || !outputs[i].requires_grad()) continue;
      reached.push_back(outputs[i]);
      arriving.push_back(gradients[i]);
    }
    if (!reached.empty()) torch::autograd::backward(reached, arriving);
    variable_list result;
    for (const at::Tensor& input : inputs)
      result.push_back(input.defined() ? input.grad() : at::Tensor());
    for (const at::Tensor& leaf : views.leaves()) result.push_back(leaf.grad());
    constexpr std::size_t kOthers = 3;  // anchor, recomputation, names
    result.resize(result.size() + kOthers);
    return result;
  }
};

class CheckpointingRunner final : public BlockRunner {
 public:
  explicit CheckpointingRunner(Model& model) : added_(model.parts().added_parameters) {
    for (const Tower& tower : model.towers())
      blocks_.insert(tower.blocks.begin(), tower.blocks.end());
  }
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    if (!blocks_.contains(&block)) return block.forward(std::move(state), context);
    return run_checkpointed(block, std::move(state), context, added_);
  }

 private:
  std::unordered_set<const Block*> blocks_;
  std::vector<std::shared_ptr<Parameter>> added_;
};

}  // namespace

BlockState run_checkpointed(Block& block, BlockState state, const BatchContext& context,
                            const std::vector<std::shared_ptr<Parameter>>& added) {
  // With a cache of keys a second pass would add to it; there is no backward pass either.
  if (!at::GradMode::is_enabled() || context.cache != nullptr)
    return block.forward(std::move(state), context);
  auto recomputation = c10::make_intrusive<Recomputation>();
  recomputation->block = &block;
  recomputation->context = context;
  for (const auto& [name, tensor] : state.carried) recomputation->carried_names.push_back(name);
  variable_list gathered;
  bool trains_leaves = false;
  for (const auto& parameter : block.parameters()) {
    if (parameter->view().defined()) {
      recomputation->viewed.push_back(parameter);
      gathered.push_back(parameter->view());
    } else {
      trains_leaves |= parameter->value().requires_grad();
    }
  }
  for (const auto& parameter : added) trains_leaves |= parameter->value().requires_grad();
  const at::Tensor anchor =
      at::empty({0}, at::TensorOptions().dtype(at::kFloat)).requires_grad_(trains_leaves);
  std::vector<std::string> names;
  const variable_list inputs = tensors_of(state);
  // Autograd finds the tensors of a list in a TensorList alone.
  variable_list outputs = Checkpointed::apply(at::TensorList(inputs), at::TensorList(gathered),
                                              anchor, recomputation, &names);
  BlockState result;
  result.hidden = std::move(outputs[0]);
  for (std::size_t i = 0; i < names.size(); ++i)
    result.carried.emplace_back(std::move(names[i]), std::move(outputs[i + 1]));
  return result;
}

std::shared_ptr<BlockRunner> checkpointing_runner(Model& model) {
  return std::make_shared<CheckpointingRunner>(model);
}

}  // namespace espalier::parallel
