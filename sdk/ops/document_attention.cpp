#include "espalier/ops/document_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <limits>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

/// One document's rows of [tokens, heads, d] as [heads, n, d] float32, key heads repeated.
at::Tensor heads_of(const at::Tensor& flat, std::int64_t begin, std::int64_t end,
                    std::int64_t heads) {
  const at::Tensor rows = flat.narrow(0, begin, end - begin).to(at::kFloat).transpose(0, 1);
  return rows.repeat_interleave(heads / rows.size(0), 0);
}

/// scale q k^T with what is not seen at minus infinity: [heads, n, n].
at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, const OpAttributes& attributes) {
  const at::Tensor place =
      at::arange(q.size(1), at::TensorOptions().dtype(at::kLong).device(q.device()));
  const at::Tensor distance = place.unsqueeze(1) - place.unsqueeze(0);
  at::Tensor hidden = distance.lt(0);
  if (attributes.integers[0] > 0) hidden = hidden.logical_or(distance.ge(attributes.integers[0]));
  return (at::matmul(q, k.transpose(1, 2)) * attributes.numbers[0])
      .masked_fill(hidden, -std::numeric_limits<double>::infinity());
}

// inputs: q, k, v, starts; numbers: scale; integers: window; saved: q, k, v, starts, output, lse
// [tokens, heads] float32
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  const at::Tensor& q = inputs[0];
  const std::int64_t heads = q.size(1);
  at::Tensor output = at::empty(q.sizes(), q.options());
  at::Tensor lse = at::empty({q.size(0), heads}, q.options().dtype(at::kFloat));
  const at::Tensor starts = inputs[3].contiguous();
  const std::int64_t* start = starts.const_data_ptr<std::int64_t>();
  for (std::int64_t d = 0; d + 1 < starts.numel(); ++d) {
    const auto part = [&](const at::Tensor& x) {
      return heads_of(x, start[d], start[d + 1], heads);
    };
    const at::Tensor scores = scores_of(part(q), part(inputs[1]), attributes);
    const at::Tensor sums = at::logsumexp(scores, {-1});  // [heads, n]
    const at::Tensor shares = (scores - sums.unsqueeze(-1)).exp();
    const std::int64_t rows = start[d + 1] - start[d];
    output.narrow(0, start[d], rows).copy_(at::matmul(shares, part(inputs[2])).transpose(0, 1));
    lse.narrow(0, start[d], rows).copy_(sums.t());
  }
  saved.tensors = {q, inputs[1], inputs[2], starts, output, lse};
  return {output};
}

// With P the shares and D = rowsum(dO O):  dV = P^T dO,  dS = P (dO V^T - D) scale,
// dQ = dS K,  dK = dS^T Q; key heads sum over the heads that share them.
Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>&) {
  const at::Tensor& q = saved.tensors[0];
  const at::Tensor& k = saved.tensors[1];
  const std::int64_t heads = q.size(1);
  Tensors grads{at::empty_like(q), at::empty_like(k), at::empty_like(saved.tensors[2]), {}};
  const std::int64_t* start = saved.tensors[3].const_data_ptr<std::int64_t>();
  for (std::int64_t d = 0; d + 1 < saved.tensors[3].numel(); ++d) {
    const std::int64_t rows = start[d + 1] - start[d];
    const auto part = [&](const at::Tensor& x) {
      return heads_of(x, start[d], start[d + 1], heads);
    };
    const auto put = [&](at::Tensor& target, const at::Tensor& grad) {  // grad [heads, n, d]
      const at::Tensor summed = grad.unflatten(0, {target.size(1), -1}).sum(1);
      target.narrow(0, start[d], rows).copy_(summed.transpose(0, 1));
    };
    const at::Tensor lse = saved.tensors[5].narrow(0, start[d], rows).t().unsqueeze(-1);
    const at::Tensor shares = (scores_of(part(q), part(k), attributes) - lse).exp();
    const at::Tensor grad = part(grad_outputs[0]);
    const at::Tensor inner = (grad * part(saved.tensors[4])).sum(-1, /*keepdim=*/true);
    const at::Tensor grad_scores =
        shares * (at::matmul(grad, part(saved.tensors[2]).transpose(1, 2)) - inner) *
        attributes.numbers[0];
    put(grads[0], at::matmul(grad_scores, part(k)));
    put(grads[1], at::matmul(grad_scores.transpose(1, 2), part(q)));
    put(grads[2], at::matmul(shares.transpose(1, 2), grad));
  }
  return grads;
}

}  // namespace

OpImplementation document_attention_reference() {
  return {"document_attention", "reference", 0, {}, forward, backward};
}

std::int64_t longest_document(const at::Tensor& starts) {
  const std::int64_t* start = starts.const_data_ptr<std::int64_t>();
  std::int64_t longest = 0;
  for (std::int64_t d = 0; d + 1 < starts.numel(); ++d)
    longest = std::max(longest, start[d + 1] - start[d]);
  return longest;
}

at::Tensor document_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& starts, double scale, std::int64_t window) {
  return call("document_attention", {q, k, v, starts}, {{scale}, {window}})[0];
}

}  // namespace espalier::ops
