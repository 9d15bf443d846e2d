#include "espalier/ops/decode_linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

constexpr std::int64_t kFewRows = 8;

// inputs: x, weight, bias, scale; saved: x, weight, scale
Tensors forward(const Tensors& inputs, const OpAttributes&, Saved& saved) {
  const at::Tensor& x = inputs[0];
  const at::Tensor& bias = inputs[2];
  const at::Tensor& scale = inputs[3];
  saved.tensors = {x, inputs[1], scale};
  const at::Tensor weight = inputs[1].to(x.scalar_type());
  const at::Tensor added = bias.defined() ? bias.to(x.scalar_type()) : bias;
  if (!scale.defined()) return {at::linear(x, weight, added)};
  at::Tensor y = (at::linear(x, weight).to(at::kFloat) * scale.to(at::kFloat)).to(x.scalar_type());
  return {added.defined() ? y + added : y};
}

// With u = g scale:  dx = u w,  dw = u^T x,  db = sum_rows(g),  dscale = sum_rows(g (x w^T))
Tensors backward(const Saved& saved, const OpAttributes&, const Tensors& grad_outputs,
                 const std::vector<bool>& needs_grad) {
  const at::Tensor x = saved.tensors[0].to(at::kFloat);
  const at::Tensor w = saved.tensors[1].to(at::kFloat);
  const at::Tensor& scale = saved.tensors[2];
  const at::Tensor grad = grad_outputs[0].to(at::kFloat);
  const at::Tensor scaled = scale.defined() ? grad * scale.to(at::kFloat) : grad;
  Tensors grads(4);
  if (needs_grad[0]) grads[0] = at::mm(scaled, w).to(saved.tensors[0].scalar_type());
  if (needs_grad[1]) grads[1] = at::mm(scaled.t(), x).to(saved.tensors[1].scalar_type());
  if (needs_grad[2]) grads[2] = grad.sum(0);
  if (scale.defined() && needs_grad[3])
    grads[3] = (grad * at::mm(x, w.t())).sum(0).to(scale.scalar_type());
  return grads;
}

}  // namespace

OpImplementation decode_linear_reference() {
  return {"decode_linear", "reference", 0, {}, forward, backward};
}

at::Tensor decode_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& scale) {
  return call("decode_linear", {x, weight, bias, scale}, {})[0];
}

bool decodes(const at::Tensor& x) {
  return !at::GradMode::is_enabled() && x.dim() == 2 && x.size(0) <= kFewRows;
}

}  // namespace espalier::ops
