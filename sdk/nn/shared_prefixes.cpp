#include "espalier/nn/shared_prefixes.h"

#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <unordered_map>
#include <vector>

namespace espalier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A sixteenth of the tokens saves more than the copies of queries, keys and values cost.
constexpr std::int64_t kLeastShare = 16;

/// A token and the row before it in its document, -1 at the start.
struct Continuation {
  std::int64_t row;
  std::int64_t id;
  std::int64_t position;
  bool operator==(const Continuation&) const = default;
};

struct ContinuationHash {
  std::size_t operator()(const Continuation& key) const {
    std::uint64_t hash = static_cast<std::uint64_t>(key.row) * 0x9e3779b97f4a7c15ULL;
    hash = (hash ^ static_cast<std::uint64_t>(key.id)) * 0xbf58476d1ce4e5b9ULL;
    hash = (hash ^ static_cast<std::uint64_t>(key.position)) * 0x94d049bb133111ebULL;
    return hash ^ (hash >> 31);
  }
};

/// to[i] = from[index[i]]. Backwards what comes for a row of `from` is summed in float32, in order.
struct TakenRows : torch::autograd::Function<TakenRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& from,
                            const at::Tensor& index) {
    context->save_for_backward({index});
    context->saved_data["rows"] = from.size(0);
    return at::index_select(from, 0, index);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor& grad = gradients[0];
    const bool narrow = grad.scalar_type() == at::kBFloat16 || grad.scalar_type() == at::kHalf;
    const at::Tensor flat = (narrow ? grad.to(at::kFloat) : grad).flatten(1).contiguous();
    std::vector<std::int64_t> shape = grad.sizes().vec();
    shape[0] = context->saved_data["rows"].toInt();
    const at::Tensor sums =
        at::embedding_dense_backward(flat, context->get_saved_variables()[0], shape[0],
                                     /*padding_idx=*/-1, /*scale_grad_by_freq=*/false);
    return {sums.view(shape).to(grad.scalar_type()), at::Tensor()};
  }
};

}  // namespace

SharedRows share_prefixes(const TokenLayout& layout, const at::Tensor& input_ids,
                          const at::Tensor& position_ids) {
  const std::int64_t tokens = layout.tokens();
  if (layout.documents() < 2) return {};
  const at::Tensor ids = input_ids.to(at::kCPU, at::kLong).contiguous();
  const at::Tensor positions = position_ids.to(at::kCPU, at::kLong).contiguous();
  const std::int64_t* id = ids.data_ptr<std::int64_t>();
  const std::int64_t* position = positions.data_ptr<std::int64_t>();
  std::unordered_map<Continuation, std::int64_t, ContinuationHash> rows;
  rows.reserve(static_cast<std::size_t>(tokens));
  std::vector<std::int64_t> row_of_token;
  std::vector<std::int64_t> token_of_row;
  row_of_token.reserve(static_cast<std::size_t>(tokens));
  for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d) {
    std::int64_t row = -1;
    for (std::int64_t token = layout.document_starts[d]; token < layout.document_starts[d + 1];
         ++token) {
      const auto next = static_cast<std::int64_t>(token_of_row.size());
      const auto [place, inserted] = rows.try_emplace({row, id[token], position[token]}, next);
      if (inserted) token_of_row.push_back(token);
      row = place->second;
      row_of_token.push_back(row);
    }
  }
  const std::int64_t saved = tokens - static_cast<std::int64_t>(token_of_row.size());
  if (saved * kLeastShare < tokens) return {};
  const auto options = at::TensorOptions().dtype(at::kLong);
  return {at::tensor(row_of_token, options), at::tensor(token_of_row, options)};
}

at::Tensor rows_of_tokens(const at::Tensor& rows, const SharedRows& shared) {
  return TakenRows::apply(rows, shared.row_of_token);
}

at::Tensor first_tokens(const at::Tensor& tokens, const SharedRows& shared) {
  return TakenRows::apply(tokens, shared.token_of_row);
}

}  // namespace espalier::nn
