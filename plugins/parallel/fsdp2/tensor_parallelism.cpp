#include "tensor_parallelism.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <set>

#include "espalier/base/error.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/expert_linear.h"
#include "espalier/nn/linear.h"
#include "token_exchange.h"

namespace espalier {
namespace {

/// Whether ranks share the indices along an axis.
bool is_shared(const std::string& axis) {
  return axis == "heads" || axis == "kv_heads" || axis == "mlp";
}

bool is_shared(const Dimension& dimension) {
  return std::any_of(dimension.segments.begin(), dimension.segments.end(),
                     [](const AxisSegment& segment) { return is_shared(segment.axis); });
}

/// The dimension of a parameter that ranks share, or its number of dimensions.
std::size_t shared_dimension(const ParameterSpec& spec) {
  return static_cast<std::size_t>(
      std::find_if(spec.dimensions.begin(), spec.dimensions.end(),
                   [](const Dimension& dimension) { return is_shared(dimension); }) -
      spec.dimensions.begin());
}

/// Parameters of modules that compute with whole tensors.
std::unordered_set<const Parameter*> parameters_left_whole(ModelParts& parts) {
  std::unordered_set<const Parameter*> whole;
  for (nn::ExpertLinear* experts : parts.expert_linears) {
    whole.insert(experts->weight().get());
    if (experts->bias() != nullptr) whole.insert(experts->bias().get());
  }
  for (nn::Embedding* embedding : parts.embeddings) whole.insert(embedding->weight().get());
  return whole;
}

std::unordered_set<const Parameter*> parameters_of_linears(ModelParts& parts) {
  std::unordered_set<const Parameter*> own;
  for (nn::Linear* linear : parts.linears) {
    own.insert(linear->weight().get());
    if (linear->bias() != nullptr) own.insert(linear->bias().get());
  }
  return own;
}

/// A norm over all heads needs those of the other ranks.
bool spans_heads(const ParameterSpec& spec) {
  for (const Dimension& dimension : spec.dimensions) {
    for (const AxisSegment& segment : dimension.segments)
      if (is_shared(segment.axis) && (segment.unit > 1 || segment.axis == "mlp")) return true;
  }
  return false;
}

/// A weight whose products are parts of a sum: the bias is added by one rank alone.
class PartialSumWeight final : public nn::WeightStorage {
 public:
  PartialSumWeight(std::unique_ptr<nn::WeightStorage> inner, bool adds_bias)
      : inner_(std::move(inner)), adds_bias_(adds_bias) {}
  at::Tensor linear(const at::Tensor& input, const at::Tensor& bias) const override {
    return inner_->linear(input, adds_bias_ ? bias : at::Tensor());
  }
  at::Tensor rows(const at::Tensor& ids, at::ScalarType dtype) const override {
    return inner_->rows(ids, dtype);
  }
  at::Tensor dense(at::ScalarType dtype) const override { return inner_->dense(dtype); }
  std::vector<std::shared_ptr<Parameter>> components() const override {
    return inner_->components();
  }
  std::int64_t bytes() const override { return inner_->bytes(); }

 private:
  std::unique_ptr<nn::WeightStorage> inner_;
  bool adds_bias_;
};

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
    const std::int64_t tokens = context.layout.tokens();
    if (epilogues_.contains(&block)) state.hidden = tokens::join(state.hidden, tokens, ranks_);
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

}  // namespace

TensorParallelism::TensorParallelism(std::shared_ptr<Communicator> ranks, bool sequence_parallel)
    : ranks_(std::move(ranks)), sequence_parallel_(sequence_parallel) {}

void TensorParallelism::check(Model& model, int size, bool sequence_parallel,
                              ProblemList& problems) {
  const auto add = [&](const std::string& what, const std::string& found, const char* key,
                       const std::string& hint) {
    problems.add(
        {ErrorCode::kUnsupported, what, found, {}, std::string("distributed.") + key, hint});
  };
  ModelParts& parts = model.parts();
  if (const std::string reason = model.shape().undivided; !reason.empty())
    add("ranks can't share the layers of this model", reason, "tp_size", "leave tp_size out");
  if (!parts.added_parameters.empty())
    add("an adapter is attached to matrices that ranks would share", {}, "tp_size",
        "leave tp_size out: the base model is sharded over all ranks all the same");
  if (sequence_parallel && !parts.expert_linears.empty())
    add("a router has to see all tokens of a batch", "sequence_parallel = true",
        "sequence_parallel", "leave it out");
  const auto whole = parameters_left_whole(parts);
  const auto linear = parameters_of_linears(parts);
  std::set<std::pair<std::string, std::int64_t>> reported;
  for (const auto& parameter : parts.parameters) {
    if (whole.contains(parameter.get())) continue;
    const ParameterSpec& spec = parameter->spec();
    if (!linear.contains(parameter.get()) && spans_heads(spec) && reported.emplace("", 0).second)
      add("a norm spans the heads of all ranks", spec.name, "tp_size", "leave tp_size out");
    for (const Dimension& dimension : spec.dimensions) {
      for (const AxisSegment& segment : dimension.segments) {
        const std::int64_t count = segment.size / segment.unit;
        if (is_shared(segment.axis) && count % size != 0 &&
            reported.emplace(segment.axis, count).second)
          add("tp_size does not divide the axis '" + segment.axis + "' of the model",
              std::to_string(count) + " over " + std::to_string(size), "tp_size",
              "choose a divisor of " + std::to_string(count));
      }
    }
  }
}

void TensorParallelism::cut_parameter(Parameter& parameter, std::size_t dimension) {
  const at::NoGradGuard no_grad;
  TensorCut cut;
  cut.dimension = dimension;
  std::vector<at::Tensor> parts;
  std::int64_t begin = 0;
  for (const AxisSegment& segment : parameter.spec().dimensions[dimension].segments) {
    const std::int64_t count = segment.size / ranks_->size();
    cut.runs.push_back({begin + count * ranks_->rank(), count});
    parts.push_back(parameter.value().detach().narrow(static_cast<std::int64_t>(dimension),
                                                      cut.runs.back().begin, count));
    begin += segment.size;
  }
  parameter.set_value(at::cat(parts, static_cast<std::int64_t>(dimension)).contiguous());
  cuts_.emplace(&parameter, std::move(cut));
}

void TensorParallelism::apply(Model& model) {
  ModelParts& parts = model.parts();
  const auto whole = parameters_left_whole(parts);
  for (nn::Linear* linear : parts.linears) {
    const Parameter& weight = *linear->weight();
    if (whole.contains(&weight)) continue;  // a head tied to the embedding
    const std::size_t dimension = shared_dimension(weight.spec());
    if (dimension == 0) {
      linear->redistribution().input = [this](const at::Tensor& x) { return enter(x); };
    } else if (dimension == 1) {
      linear->redistribution().output = [this](const at::Tensor& y) { return leave(y); };
      linear->set_storage(
          std::make_unique<PartialSumWeight>(linear->set_storage(nullptr), ranks_->rank() == 0));
      if (linear->bias() != nullptr) partial_.push_back(linear->bias());
    }
  }
  std::unordered_set<const Parameter*> in_blocks;
  for (const Tower& tower : model.towers()) {
    for (Block* block : tower.blocks) {
      for (const auto& parameter : block->parameters()) in_blocks.insert(parameter.get());
    }
  }
  const std::unordered_set<const Parameter*> biases = [&] {
    std::unordered_set<const Parameter*> known;
    for (const auto& bias : partial_) known.insert(bias.get());
    return known;
  }();
  for (const auto& parameter : parts.parameters) {
    if (whole.contains(parameter.get())) continue;
    const ParameterSpec& spec = parameter->spec();
    const std::size_t dimension = shared_dimension(spec);
    if (dimension < spec.dimensions.size()) {
      cut_parameter(*parameter, dimension);
      continue;
    }
    // A norm inside of heads sees those of this rank; with sequence parallelism every norm sees
    // the tokens of this rank.
    const bool inside_heads =
        std::any_of(spec.dimensions.begin(), spec.dimensions.end(), [](const Dimension& d) {
          return !d.segments.empty() && d.segments.front().axis == "head_dim";
        });
    const bool in_region = sequence_parallel_ && in_blocks.contains(parameter.get());
    if ((inside_heads || in_region) && !biases.contains(parameter.get()))
      partial_.push_back(parameter);
  }
}

const TensorCut* TensorParallelism::cut(const Parameter& parameter) const {
  const auto found = cuts_.find(&parameter);
  return found == cuts_.end() ? nullptr : &found->second;
}

at::Tensor TensorParallelism::enter(const at::Tensor& input) {
  if (entered_.defined() && entered_.is_same(input)) return entered_as_;
  at::Tensor result = sequence_parallel_ ? tokens::gather(input, tokens_, *ranks_)
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
  tokens_ = context.layout.tokens();
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

void TensorParallelism::finish_gradients() {
  const at::NoGradGuard no_grad;
  std::vector<std::shared_ptr<Parameter>> trained;
  std::int64_t size = 0;
  for (const auto& parameter : partial_) {
    if (!parameter->trainable()) continue;
    trained.push_back(parameter);
    size += parameter->value().numel() + 1;
  }
  if (trained.empty()) return;
  const at::Tensor sums =
      at::zeros({size}, trained.front()->value().options().dtype(at::kFloat).requires_grad(false));
  std::int64_t offset = 0;
  for (const auto& parameter : trained) {
    const at::Tensor& gradient = parameter->value().grad();
    const std::int64_t count = parameter->value().numel();
    if (gradient.defined()) {
      sums.narrow(0, offset, count).copy_(gradient.reshape({-1}));
      sums.narrow(0, offset + count, 1).fill_(1.0);
    }
    offset += count + 1;
  }
  ranks_->all_reduce(sums, "gradients of parts")->wait();
  offset = 0;
  for (const auto& parameter : trained) {
    const at::Tensor& value = parameter->value();
    const std::int64_t count = value.numel();
    if (sums.narrow(0, offset + count, 1).item<double>() > 0)
      value.mutable_grad() = sums.narrow(0, offset, count)
                                 .view(value.sizes())
                                 .to(value.options().requires_grad(false), false, /*copy=*/true);
    offset += count + 1;
  }
}

at::Tensor TensorParallelism::assemble(const Parameter& parameter, const at::Tensor& local) const {
  const TensorCut* own = cut(parameter);
  if (own == nullptr) return local;
  const at::NoGradGuard no_grad;
  const auto options = local.options().requires_grad(false);
  const at::Tensor received = at::empty({ranks_->size(), local.numel()}, options);
  ranks_->all_gather(received.view({-1}), local.contiguous().view({-1}), "a parameter")->wait();
  at::Tensor whole = at::empty(parameter.spec().shape(), options);
  const auto dimension = static_cast<std::int64_t>(own->dimension);
  for (int rank = 0; rank < ranks_->size(); ++rank) {
    const at::Tensor theirs = received.select(0, rank).view(local.sizes());
    std::int64_t offset = 0;
    for (const IndexRun& run : own->runs) {
      const std::int64_t begin = run.begin + (rank - ranks_->rank()) * run.count;
      whole.narrow(dimension, begin, run.count).copy_(theirs.narrow(dimension, offset, run.count));
      offset += run.count;
    }
  }
  return whole;
}

}  // namespace espalier
