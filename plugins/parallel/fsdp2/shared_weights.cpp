#include "shared_weights.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "token_exchange.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Gathers what the ranks have along one dimension, and gives back what this rank has of it; one of
/// the two forward, the other backward.
struct ColumnExchange : torch::autograd::Function<ColumnExchange> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const TensorCut& cut,
                            Communicator* ranks, bool gathers) {
    context->saved_data["ranks"] = reinterpret_cast<std::int64_t>(ranks);
    context->saved_data["gathers"] = gathers;
    std::vector<std::int64_t> numbers = {cut.rank};
    for (const auto& runs : cut.of_ranks) {
      ESPALIER_ASSERT(runs.size() == 1, "features are cut into one run for each rank");
      numbers.insert(numbers.end(), {runs[0].begin, runs[0].count});
    }
    context->saved_data["cut"] = numbers;
    return move(x, cut, *ranks, gathers);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what autograd saves holds no pointers
    auto* ranks = reinterpret_cast<Communicator*>(context->saved_data["ranks"].toInt());
    const std::vector<std::int64_t> numbers = context->saved_data["cut"].toIntVector();
    TensorCut cut;
    cut.dimension = 1;
    cut.rank = static_cast<int>(numbers[0]);
    for (std::size_t i = 1; i < numbers.size(); i += 2)
      cut.of_ranks.push_back({{numbers[i], numbers[i + 1]}});
    const bool gathers = !context->saved_data["gathers"].toBool();
    return {move(gradients[0], cut, *ranks, gathers), {}, {}, {}};
  }

 private:
  static at::Tensor move(const at::Tensor& x, const TensorCut& cut, Communicator& ranks,
                         bool gathers) {
    const at::NoGradGuard no_grad;
    const IndexRun& own = cut.runs().front();
    if (!gathers) return x.narrow(1, own.begin, own.count).contiguous();
    const IndexRun& last = cut.of_ranks.back().front();
    return whole_of_cut(x, cut, {x.size(0), last.begin + last.count}, ranks);
  }
};

TensorCut along_columns(const TensorCut& cut) {
  TensorCut columns = cut;
  columns.dimension = 1;
  return columns;
}

}  // namespace

at::Tensor whole_of_cut(const at::Tensor& local, const TensorCut& cut,
                        const std::vector<std::int64_t>& shape, Communicator& ranks) {
  const at::NoGradGuard no_grad;
  const auto dimension = static_cast<std::int64_t>(cut.dimension);
  std::int64_t longest = 0;
  for (int rank = 0; rank < ranks.size(); ++rank) longest = std::max(longest, cut.count(rank));
  std::int64_t others = 1;  // elements of one index
  for (std::size_t d = 0; d < shape.size(); ++d) others *= d == cut.dimension ? 1 : shape[d];
  const auto options = local.options().requires_grad(false);
  if (others == 0) return at::empty(shape, options);
  // Shorter parts travel with zeros behind.
  at::Tensor sent = local.detach().contiguous().view({-1});
  if (sent.numel() < longest * others)
    sent = at::cat({sent, at::zeros({longest * others - sent.numel()}, options)});
  const at::Tensor received = at::empty({ranks.size(), longest * others}, options);
  ranks.all_gather(received.view({-1}), sent, "what ranks share")->wait();
  at::Tensor whole = at::empty(shape, options);
  for (int rank = 0; rank < ranks.size(); ++rank) {
    std::vector<std::int64_t> sizes = shape;
    sizes[cut.dimension] = cut.count(rank);
    const at::Tensor theirs =
        received.select(0, rank).narrow(0, 0, cut.count(rank) * others).view(sizes);
    std::int64_t offset = 0;
    for (const IndexRun& run : cut.of_ranks[static_cast<std::size_t>(rank)]) {
      whole.narrow(dimension, run.begin, run.count)
          .copy_(theirs.narrow(dimension, offset, run.count));
      offset += run.count;
    }
  }
  return whole;
}

at::Tensor columns::join(const at::Tensor& own, const TensorCut& cut, Communicator& ranks) {
  return ColumnExchange::apply(own, along_columns(cut), &ranks, /*gathers=*/true);
}

at::Tensor columns::cut(const at::Tensor& x, const TensorCut& cut, Communicator& ranks) {
  return ColumnExchange::apply(x, along_columns(cut), &ranks, /*gathers=*/false);
}

at::Tensor PartialSumWeight::linear(const at::Tensor& input, const at::Tensor& bias) const {
  return inner_->linear(input, adds_bias_ ? bias : at::Tensor());
}

at::Tensor PartialSumWeight::rows(const at::Tensor& ids, at::ScalarType dtype) const {
  return inner_->rows(ids, dtype);
}

at::Tensor RowsOfRank::linear(const at::Tensor& input, const at::Tensor& bias) const {
  return inner_->linear(input, bias);
}

at::Tensor RowsOfRank::rows(const at::Tensor& ids, at::ScalarType dtype) const {
  const IndexRun& own = cut_.runs().front();
  const at::Tensor local = ids - own.begin;
  const at::Tensor elsewhere = local.lt(0).bitwise_or(local.ge(own.count));
  const at::Tensor found = inner_->rows(local.clamp(0, own.count - 1), dtype);
  return tokens::sum_over_ranks(found.masked_fill(elsewhere.unsqueeze(-1), 0), *ranks_);
}

at::Tensor RowsOfRank::dense(at::ScalarType dtype) const {
  return whole_of_cut(inner_->dense(dtype), cut_, weight_->spec().shape(), *ranks_);
}

}  // namespace espalier
