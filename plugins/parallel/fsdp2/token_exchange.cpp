#include "token_exchange.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace espalier::tokens {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::int64_t run_length(std::int64_t tokens, const Communicator& ranks) {
  return (tokens + ranks.size() - 1) / ranks.size();
}

std::vector<std::int64_t> with_tokens(const at::Tensor& x, std::int64_t tokens) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes[0] = tokens;
  return sizes;
}

/// The same with rows of zeros behind, so that the ranks' runs are equally long.
at::Tensor padded(const at::Tensor& x, const Communicator& ranks) {
  const std::int64_t length = run_length(x.size(0), ranks) * ranks.size();
  if (length == x.size(0)) return x.contiguous();
  at::Tensor result = at::zeros(with_tokens(x, length), x.options());
  result.narrow(0, 0, x.size(0)).copy_(x);
  return result;
}

at::Tensor reduced(const at::Tensor& x, Communicator& ranks) {
  at::Tensor sum = x.clone(at::MemoryFormat::Contiguous);
  if (sum.numel() == 0) return sum;  // rows of a micro-batch without labels
  ranks.all_reduce(sum.view({-1}), "activations")->wait();
  return sum;
}

at::Tensor gathered(const at::Tensor& run, std::int64_t tokens, Communicator& ranks) {
  const at::Tensor own = run.contiguous();
  const at::Tensor all = at::empty(with_tokens(own, own.size(0) * ranks.size()), own.options());
  ranks.all_gather(all.view({-1}), own.view({-1}), "activations")->wait();
  return all.narrow(0, 0, tokens).contiguous();
}

at::Tensor reduced_run(const at::Tensor& parts, Communicator& ranks) {
  const at::Tensor all = padded(parts, ranks);
  at::Tensor run = at::empty(with_tokens(all, all.size(0) / ranks.size()), all.options());
  ranks.reduce_scatter(run.view({-1}), all.view({-1}), "activations")->wait();
  return run;
}

at::Tensor own_run(const at::Tensor& x, Communicator& ranks) {
  const at::Tensor all = padded(x, ranks);
  const std::int64_t length = all.size(0) / ranks.size();
  return all.narrow(0, ranks.rank() * length, length).clone();
}

enum class Move : std::int64_t { kNothing, kReduce, kGather, kReduceCut, kCut };

at::Tensor move(Move kind, const at::Tensor& x, std::int64_t tokens, Communicator& ranks) {
  const at::NoGradGuard no_grad;
  switch (kind) {
    case Move::kNothing: return x;
    case Move::kReduce: return reduced(x, ranks);
    case Move::kGather: return gathered(x, tokens, ranks);
    case Move::kReduceCut: return reduced_run(x, ranks);
    case Move::kCut: return own_run(x, ranks);
  }
  return {};
}

/// One move forward and another backward.
struct Exchange : torch::autograd::Function<Exchange> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, Move forward,
                            Move backward, std::int64_t tokens, Communicator* ranks) {
    context->saved_data["backward"] = static_cast<std::int64_t>(backward);
    context->saved_data["tokens"] = tokens;
    context->saved_data["ranks"] = reinterpret_cast<std::int64_t>(ranks);
    return move(forward, x, tokens, *ranks);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what autograd saves holds no pointers
    auto* ranks = reinterpret_cast<Communicator*>(context->saved_data["ranks"].toInt());
    const auto kind = static_cast<Move>(context->saved_data["backward"].toInt());
    return {
        move(kind, gradients[0], context->saved_data["tokens"].toInt(), *ranks), {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor copy_to_ranks(const at::Tensor& x, Communicator& ranks) {
  return Exchange::apply(x, Move::kNothing, Move::kReduce, x.size(0), &ranks);
}

at::Tensor sum_over_ranks(const at::Tensor& x, Communicator& ranks) {
  return Exchange::apply(x, Move::kReduce, Move::kNothing, x.size(0), &ranks);
}

at::Tensor gather(const at::Tensor& run, std::int64_t tokens, Communicator& ranks) {
  return Exchange::apply(run, Move::kGather, Move::kReduceCut, tokens, &ranks);
}

at::Tensor sum_and_cut(const at::Tensor& parts, Communicator& ranks) {
  return Exchange::apply(parts, Move::kReduceCut, Move::kGather, parts.size(0), &ranks);
}

at::Tensor cut(const at::Tensor& x, Communicator& ranks) {
  return Exchange::apply(x, Move::kCut, Move::kGather, x.size(0), &ranks);
}

at::Tensor join(const at::Tensor& run, std::int64_t tokens, Communicator& ranks) {
  return Exchange::apply(run, Move::kGather, Move::kCut, tokens, &ranks);
}

}  // namespace espalier::tokens
