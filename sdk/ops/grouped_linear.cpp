#include "espalier/ops/grouped_linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

/// Calls `work(group, first row, rows)` for each group, those without rows too.
template <class Work>
void for_each_group(const at::Tensor& offsets, const Work& work) {
  const std::int64_t* edge = offsets.const_data_ptr<std::int64_t>();
  for (std::int64_t group = 0; group + 1 < offsets.size(0); ++group)
    work(group, edge[group], edge[group + 1] - edge[group]);
}

// inputs: x, weight, bias, offsets; saved: x, weight, offsets
Tensors forward(const Tensors& inputs, const OpAttributes&, Saved& saved) {
  const at::Tensor& x = inputs[0];
  const at::Tensor& weight = inputs[1];
  const at::Tensor& bias = inputs[2];
  at::Tensor y = at::empty({x.size(0), weight.size(1)}, x.options());
  for_each_group(inputs[3], [&](std::int64_t group, std::int64_t begin, std::int64_t rows) {
    if (rows == 0) return;
    at::Tensor part = y.narrow(0, begin, rows);
    at::mm_out(part, x.narrow(0, begin, rows), weight[group].to(x.scalar_type()).t());
    if (bias.defined()) part.add_(bias[group]);
  });
  saved.tensors = {x, weight, inputs[3]};
  return {y};
}

// dx = g W,  dW = g^T x,  db = sum_rows(g), group by group
Tensors backward(const Saved& saved, const OpAttributes&, const Tensors& grad_outputs,
                 const std::vector<bool>& needs_grad) {
  const at::Tensor& x = saved.tensors[0];
  const at::Tensor& weight = saved.tensors[1];
  const at::Tensor grad = grad_outputs[0].contiguous();
  Tensors grads(4);
  if (needs_grad[0]) grads[0] = at::empty_like(x);
  if (needs_grad[1]) grads[1] = at::empty_like(weight);
  if (needs_grad[2]) grads[2] = at::empty({weight.size(0), weight.size(1)}, weight.options());
  for_each_group(saved.tensors[2], [&](std::int64_t group, std::int64_t begin, std::int64_t rows) {
    const at::Tensor g = grad.narrow(0, begin, rows);
    if (needs_grad[0] && rows > 0) {
      at::Tensor part = grads[0].narrow(0, begin, rows);
      at::mm_out(part, g, weight[group].to(x.scalar_type()));
    }
    if (needs_grad[1]) {
      at::Tensor part = grads[1][group];
      if (rows == 0) {
        part.zero_();
      } else if (part.scalar_type() == g.scalar_type()) {
        at::mm_out(part, g.t(), x.narrow(0, begin, rows));
      } else {
        part.copy_(at::mm(g.t(), x.narrow(0, begin, rows)));
      }
    }
    if (needs_grad[2]) grads[2][group].copy_(g.sum(0));
  });
  return grads;
}

}  // namespace

OpImplementation grouped_linear_reference() {
  return {"grouped_linear", "reference", 0, {}, forward, backward};
}

at::Tensor grouped_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& offsets) {
  return call("grouped_linear", {x, weight, bias, offsets}, {})[0];
}

}  // namespace espalier::ops
