#include "espalier/ops/pooling.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "espalier/ops/cross_entropy.h"

namespace espalier::ops {
namespace {

constexpr double kSmallestLength = 1e-12;  // torch.nn.functional.normalize

std::vector<std::int64_t> lengths_of(const TokenLayout& layout) {
  std::vector<std::int64_t> lengths;
  for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d)
    lengths.push_back(layout.document_starts[d + 1] - layout.document_starts[d]);
  return lengths;
}

at::Tensor mean_of_documents(const at::Tensor& hidden, const TokenLayout& layout) {
  const at::Tensor lengths = at::tensor(lengths_of(layout), at::kLong).to(hidden.device());
  const at::Tensor document = at::repeat_interleave(lengths);  // [tokens]
  const at::Tensor sums =
      at::zeros({lengths.size(0), hidden.size(1)}, hidden.options()).index_add(0, document, hidden);
  return sums / lengths.clamp_min(1).unsqueeze(-1);
}

}  // namespace

at::Tensor last_token_rows(const TokenLayout& layout, const at::Tensor& input_ids,
                           std::optional<std::int64_t> padding_id) {
  const at::Tensor flat = layout.flatten(input_ids).to(at::kCPU, at::kLong).contiguous();
  const auto* ids = flat.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> rows;
  for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d) {
    const std::int64_t first = layout.document_starts[d];
    std::int64_t row = layout.document_starts[d + 1] - 1;
    while (padding_id && row >= first && ids[row] == *padding_id) --row;
    rows.push_back(std::max(row, first));
  }
  return at::tensor(rows, at::kLong);
}

at::Tensor pool_documents(const at::Tensor& hidden, const TokenLayout& layout, Pooling pooling,
                          bool normalize) {
  const at::Tensor states = hidden.to(at::kFloat);
  at::Tensor pooled;
  if (pooling == Pooling::kMean) {
    pooled = mean_of_documents(states, layout);
  } else {
    std::vector<std::int64_t> rows;
    for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d)
      rows.push_back(layout.document_starts[d + 1] - 1);
    pooled = states.index_select(0, at::tensor(rows, at::kLong).to(states.device()));
  }
  if (!normalize) return pooled;
  return pooled / at::linalg_vector_norm(pooled, 2, {-1}, true).clamp_min(kSmallestLength);
}

at::Tensor info_nce(const at::Tensor& queries, const at::Tensor& passages, double temperature) {
  const at::Tensor scores =
      at::matmul(queries.to(at::kFloat), passages.to(at::kFloat).t()) / temperature;
  const at::Tensor own =
      at::arange(queries.size(0), at::TensorOptions().dtype(at::kLong)).to(scores.device());
  return cross_entropy(scores, own);
}

}  // namespace espalier::ops
