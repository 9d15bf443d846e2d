#include "espalier/parallel/activation_checkpointing.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fnmatch.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/base/error.h"

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

bool matches(const std::string& name, const std::string& pattern) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

class CheckpointingRunner final : public BlockRunner {
 public:
  CheckpointingRunner(Model& model, const CheckpointingConfig& config) : blocks_(model, config) {}
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    return blocks_.run(block, std::move(state), context);
  }

 private:
  CheckpointedBlocks blocks_;
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

ConfigSchema<CheckpointingConfig> CheckpointingConfig::schema() {
  return ConfigSchema<CheckpointingConfig>()
      .field("blocks", &CheckpointingConfig::blocks,
             "names of blocks with '*' and '?', e.g. \"*.layers.1?\"; empty: all")
      .field("every", &CheckpointingConfig::every, "of those the first, and every so manieth")
      .at_least(1)
      .field("part", &CheckpointingConfig::part,
             "what of a block is computed again: all of it, its attention, or its MLP")
      .one_of({"block", "attention", "mlp"});
}

void check_checkpointing(bool on, const CheckpointingConfig& config, ProblemList& problems) {
  if (on || (config.blocks.empty() && config.every == 1 && config.part == "block")) return;
  problems.add({ErrorCode::kBadInput,
                "blocks are chosen for activation checkpointing, which is off",
                "activation_checkpointing = false",
                {},
                "distributed.checkpointing",
                "set activation_checkpointing = true, or leave checkpointing out"});
}

CheckpointedBlocks::CheckpointedBlocks(Model& model, const CheckpointingConfig& config)
    : added_(model.parts().added_parameters), cuts_blocks_(config.part != "block") {
  std::vector<Block*> blocks;
  for (const Tower& tower : model.towers())
    blocks.insert(blocks.end(), tower.blocks.begin(), tower.blocks.end());
  for (const std::string& pattern : config.blocks) {
    if (std::any_of(blocks.begin(), blocks.end(),
                    [&](const Block* block) { return matches(block->name(), pattern); }))
      continue;
    throw_bad_input("a pattern of checkpointing.blocks matches no block", pattern,
                    "the name of a block with '*' and '?'", "distributed.checkpointing.blocks",
                    blocks.empty() ? "" : "the first block is " + blocks.front()->name());
  }
  std::int64_t number = 0;
  for (Block* block : blocks) {
    const bool named =
        config.blocks.empty() ||
        std::any_of(config.blocks.begin(), config.blocks.end(),
                    [&](const auto& pattern) { return matches(block->name(), pattern); });
    if (!named || number++ % config.every != 0) continue;
    Block* chosen = cuts_blocks_ ? nullptr : block;
    for (Block* part : block->parts()) {
      if (cuts_blocks_ && part->name().ends_with(config.part)) chosen = part;
    }
    if (chosen == nullptr) {
      throw Error(Problem{ErrorCode::kUnsupported,
                          "the layers of this model are not attention and then an MLP",
                          "checkpointing.part = \"" + config.part + "\"", "\"block\"",
                          "distributed.checkpointing.part, block " + block->name(),
                          "leave the key out: blocks are then computed again as a whole"});
    }
    chosen_.emplace(block, chosen);
  }
}

BlockState CheckpointedBlocks::run(Block& block, BlockState state, const BatchContext& context,
                                   Block* as) const {
  Block& own = as == nullptr ? block : *as;
  const auto found = chosen_.find(&block);
  if (found == chosen_.end()) return own.forward(std::move(state), context);
  if (found->second == &block) return run_checkpointed(own, std::move(state), context, added_);
  for (Block* part : block.parts()) {
    state = part == found->second ? run_checkpointed(*part, std::move(state), context, added_)
                                  : part->forward(std::move(state), context);
  }
  return state;
}

std::shared_ptr<BlockRunner> checkpointing_runner(Model& model, const CheckpointingConfig& config) {
  return std::make_shared<CheckpointingRunner>(model, config);
}

}  // namespace espalier::parallel
