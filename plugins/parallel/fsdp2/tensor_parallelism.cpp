#include "tensor_parallelism.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/nn/embedding.h"
#include "shared_weights.h"
#include "token_exchange.h"

namespace espalier {
namespace {

class TokenRunner final : public BlockRunner {
 public:
  TokenRunner(Model& model, std::shared_ptr<BlockRunner> inner, Communicator& ranks)
      : inner_(std::move(inner)), ranks_(ranks) {
    for (const Tower& tower : model.towers()) {
      prologues_.insert(tower.prologue);
      epilogues_.insert(tower.epilogue);
    }
  }
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    if (epilogues_.contains(&block))
      state.hidden = tokens::join(state.hidden, context.rows, ranks_);
    state = inner_->run(block, std::move(state), context);
    if (prologues_.contains(&block)) state.hidden = tokens::cut(state.hidden, ranks_);
    return state;
  }
  std::shared_ptr<void> head_scope(
      const std::vector<std::shared_ptr<Parameter>>& parameters) override {
    return inner_->head_scope(parameters);
  }

 private:
  std::shared_ptr<BlockRunner> inner_;
  Communicator& ranks_;
  std::unordered_set<const Block*> prologues_;
  std::unordered_set<const Block*> epilogues_;
};

at::Tensor taken(const at::Tensor& whole, std::int64_t dimension,
                 const std::vector<IndexRun>& runs) {
  std::vector<at::Tensor> parts;
  parts.reserve(runs.size());
  for (const IndexRun& run : runs) parts.push_back(whole.narrow(dimension, run.begin, run.count));
  return at::cat(parts, dimension).contiguous();
}

}  // namespace

TensorParallelism::TensorParallelism(std::shared_ptr<Communicator> ranks, bool sequence_parallel,
                                     SharingPatterns patterns)
    : ranks_(std::move(ranks)),
      sequence_parallel_(sequence_parallel),
      patterns_(std::move(patterns)) {}

SharingRanks TensorParallelism::sharing_ranks() const {
  return {ranks_->rank(), ranks_->size(), sequence_parallel_};
}

void TensorParallelism::check(Model& model, ProblemList& problems) const {
  make_sharing_plan(model, sharing_ranks(), patterns_, problems);
}

void TensorParallelism::apply(Model& model) {
  ProblemList problems;
  const SharingPlan plan = make_sharing_plan(model, sharing_ranks(), patterns_, problems);
  problems.throw_if_any();
  ModelParts& parts = model.parts();
  for (const auto& parameter : parts.parameters)
    if (const TensorCut* cut = plan.cut(*parameter)) cut_parameter(*parameter, *cut);
  for (const auto& added : parts.added_parameters) {
    const auto base = plan.stand_ins.find(added.get());
    if (base == plan.stand_ins.end()) continue;
    if (const TensorCut* cut = plan.cut(*base->second)) cut_parameter(*added, *cut);
  }
  for (const SharingPlan::Entry& entry : plan.linears) {
    if (entry.style != SharingStyle::kWhole) share_linear(entry);
  }
  for (nn::Embedding* table : plan.tables) {
    table->set_storage(std::make_unique<RowsOfRank>(
        table->set_storage(nullptr), *plan.cut(*table->weight()), table->weight(), ranks_));
  }
  collect_partial(model);
  // A copy that an adapter trains has the gradient that the parameter would have.
  const std::unordered_set<const Parameter*> known = [&] {
    std::unordered_set<const Parameter*> all;
    for (const auto& parameter : partial_) all.insert(parameter.get());
    return all;
  }();
  for (const auto& added : parts.added_parameters) {
    const auto base = plan.stand_ins.find(added.get());
    if (base != plan.stand_ins.end() && known.contains(base->second) &&
        !known.contains(added.get()))
      partial_.push_back(added);
  }
}

void TensorParallelism::cut_parameter(Parameter& parameter, const TensorCut& cut) {
  const at::NoGradGuard no_grad;
  parameter.set_value(
      taken(parameter.value().detach(), static_cast<std::int64_t>(cut.dimension), cut.runs()));
  cuts_.emplace(&parameter, cut);
}

void TensorParallelism::share_linear(const SharingPlan::Entry& entry) {
  nn::Linear& linear = *entry.linear;
  nn::RedistributionSeat& seat = linear.redistribution();
  const TensorCut& cut = cuts_.at(linear.weight().get());
  const nn::LinearShare share{
      side_of(entry.style),
      {ranks_, linear.weight()->spec().dimensions[cut.dimension].size(), cut.runs()}};
  if (share.side == nn::LinearSide::kOutputs) {
    share_scales(linear, cut);
    if (entry.in_block)
      seat.input = [this](const at::Tensor& x) { return enter(x); };
    else
      seat.input = [this](const at::Tensor& x) { return tokens::copy_to_ranks(x, *ranks_); };
  } else {
    if (entry.in_block)
      seat.output = [this](const at::Tensor& y) { return leave(y); };
    else
      seat.output = [this](const at::Tensor& y) { return tokens::sum_over_ranks(y, *ranks_); };
    linear.set_storage(
        std::make_unique<PartialSumWeight>(linear.set_storage(nullptr), ranks_->rank() == 0));
    if (linear.bias() != nullptr) partial_.push_back(linear.bias());
  }
  if (entry.style == SharingStyle::kOutputsJoin) {
    seat.share = std::make_shared<const AxisShare>(share.axis);
    seat.output = [this, cut](const at::Tensor& y) { return columns::join(y, cut, *ranks_); };
  } else if (entry.style == SharingStyle::kInputsSplit) {
    seat.input = [this, cut](const at::Tensor& x) { return columns::cut(x, cut, *ranks_); };
  }
  share_extensions(linear, share, cut);
}

/// What a quantised weight has for each output goes with the outputs.
void TensorParallelism::share_scales(nn::Linear& linear, const TensorCut& cut) {
  if (at::isFloatingType(linear.weight()->value().scalar_type())) return;
  for (const auto& component : linear.storage().components()) {
    const std::vector<std::int64_t> shape = component->spec().shape();
    if (component == linear.weight() || cuts_.contains(component.get()) || shape.size() != 1 ||
        shape[0] != linear.weight()->spec().dimensions[0].size())
      continue;
    TensorCut own = cut;
    own.dimension = 0;
    cut_parameter(*component, own);
  }
}

void TensorParallelism::share_extensions(nn::Linear& linear, const nn::LinearShare& share,
                                         const TensorCut& cut) {
  for (const auto& extension : linear.extensions()) {
    for (const auto& parameter : extension->parameters()) {
      if (const auto dimension = extension->dimension_along(share.side, *parameter)) {
        TensorCut own = cut;
        own.dimension = *dimension;
        cut_parameter(*parameter, own);
        if (cut.copies > 1) partial_.push_back(parameter);
      } else {
        partial_.push_back(parameter);
      }
    }
    extension->set_share(share);
  }
}

/// The model's own parameters of which each rank has a part of the gradient, and with sequence
/// parallelism those that adapters put on linears that see a run of the tokens.
void TensorParallelism::collect_partial(Model& model) {
  std::unordered_set<const Parameter*> known;
  for (const auto& parameter : partial_) known.insert(parameter.get());
  std::unordered_set<const Parameter*> in_blocks;
  for (const Tower& tower : model.towers()) {
    for (Block* block : tower.blocks) {
      for (const auto& parameter : block->parameters()) in_blocks.insert(parameter.get());
    }
  }
  bool shares_heads = false;
  for (const auto& [parameter, cut] : cuts_) {
    const auto& segments = parameter->spec().dimensions[cut.dimension].segments;
    shares_heads = shares_heads || segments.front().axis == "heads";
  }
  for (const auto& parameter : model.parts().parameters) {
    if (known.contains(parameter.get())) continue;
    if (const TensorCut* own = cut(*parameter)) {
      if (own->copies > 1) partial_.push_back(parameter);
      continue;
    }
    // A norm inside of heads sees those of this rank; with sequence parallelism every norm sees
    // the tokens of this rank.
    const std::vector<Dimension>& dimensions = parameter->spec().dimensions;
    const bool inside_heads =
        shares_heads && std::any_of(dimensions.begin(), dimensions.end(), [](const Dimension& d) {
          return !d.segments.empty() && d.segments.front().axis == "head_dim";
        });
    if (inside_heads || (sequence_parallel_ && in_blocks.contains(parameter.get())))
      partial_.push_back(parameter);
  }
  if (!sequence_parallel_) return;
  for (const nn::Linear* linear : model.parts().linears) {
    if (!in_blocks.contains(linear->weight().get()) || cut(*linear->weight()) != nullptr) continue;
    for (const auto& extension : linear->extensions()) {
      for (const auto& parameter : extension->parameters()) partial_.push_back(parameter);
    }
  }
}

const TensorCut* TensorParallelism::cut(const Parameter& parameter) const {
  const auto found = cuts_.find(&parameter);
  return found == cuts_.end() ? nullptr : &found->second;
}

bool TensorParallelism::owns(const Parameter& parameter) const {
  const TensorCut* own = cut(parameter);
  return own == nullptr ? ranks_->rank() == 0 : ranks_->rank() % own->copies == 0;
}

at::Tensor TensorParallelism::enter(const at::Tensor& input) {
  if (entered_.defined() && entered_.is_same(input)) return entered_as_;
  at::Tensor result = sequence_parallel_ ? tokens::gather(input, rows_, *ranks_)
                                         : tokens::copy_to_ranks(input, *ranks_);
  entered_ = input;
  entered_as_ = result;
  return result;
}

at::Tensor TensorParallelism::leave(const at::Tensor& output) {
  return sequence_parallel_ ? tokens::sum_and_cut(output, *ranks_)
                            : tokens::sum_over_ranks(output, *ranks_);
}

BlockState TensorParallelism::run_block(Block& block, BlockState state,
                                        const BatchContext& context) {
  rows_ = context.rows;
  state = block.forward(std::move(state), context);
  entered_.reset();
  entered_as_.reset();
  return state;
}

std::shared_ptr<BlockRunner> TensorParallelism::around(Model& model,
                                                       std::shared_ptr<BlockRunner> inner) {
  if (!sequence_parallel_) return inner;
  return std::make_shared<TokenRunner>(model, std::move(inner), *ranks_);
}

// Each gradient has a place in one tensor that is summed over all ranks: a place for each of its
// cuts where only some ranks have the same one.
void TensorParallelism::finish_gradients() {
  const at::NoGradGuard no_grad;
  struct Place {
    std::shared_ptr<Parameter> parameter;
    std::int64_t offset;
  };
  std::vector<Place> own;
  std::int64_t size = 0;
  for (const auto& parameter : partial_) {
    if (!parameter->trainable()) continue;
    const TensorCut* cut = this->cut(*parameter);
    const std::int64_t slots = cut == nullptr ? 1 : ranks_->size() / cut->copies;
    const std::int64_t slot = cut == nullptr ? 0 : ranks_->rank() / cut->copies;
    const std::int64_t each = parameter->value().numel() + 1;  // and whether any rank has one
    own.push_back({parameter, size + slot * each});
    size += slots * each;
  }
  if (own.empty()) return;
  const at::Tensor sums = at::zeros(
      {size}, own.front().parameter->value().options().dtype(at::kFloat).requires_grad(false));
  for (const auto& [parameter, offset] : own) {
    const at::Tensor& gradient = parameter->value().grad();
    if (!gradient.defined()) continue;
    const std::int64_t count = parameter->value().numel();
    sums.narrow(0, offset, count).copy_(gradient.reshape({-1}));
    sums.narrow(0, offset + count, 1).fill_(1.0);
  }
  ranks_->all_reduce(sums, "gradients of parts")->wait();
  for (const auto& [parameter, offset] : own) {
    const at::Tensor& value = parameter->value();
    const std::int64_t count = value.numel();
    if (sums.narrow(0, offset + count, 1).item<double>() > 0)
      value.mutable_grad() = sums.narrow(0, offset, count)
                                 .view(value.sizes())
                                 .to(value.options().requires_grad(false), false, /*copy=*/true);
  }
}

at::Tensor TensorParallelism::assemble(const Parameter& parameter, const at::Tensor& local) const {
  const TensorCut* own = cut(parameter);
  return own == nullptr ? local : whole_of_cut(local, *own, parameter.spec().shape(), *ranks_);
}

}  // namespace espalier
