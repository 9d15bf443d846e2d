#include "espalier/ops/rms_norm.h"

#include <ATen/TensorOperators.h>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

// inputs: x, w; numbers: eps, offset; saved: x, w, r where r = 1 / sqrt(mean(x^2) + eps), [rows, 1]
// float32. In 16 bits x r is rounded before it meets a weight without offset, and not before one
// with, as the families' own code in transformers does.
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  const at::Tensor x = inputs[0].to(at::kFloat);
  const at::Tensor r = x.pow(2).mean(-1, /*keepdim=*/true).add_(attributes.numbers[0]).rsqrt_();
  const at::Tensor w = inputs[1].to(at::kFloat).add(attributes.numbers[1]);
  saved.tensors = {inputs[0], inputs[1], r};
  at::Tensor n = x * r;
  if (attributes.numbers[1] == 0) n = n.to(inputs[0].scalar_type()).to(at::kFloat);
  return {n.mul_(w).to(inputs[0].scalar_type())};
}

// With n = x r:  dw = sum_rows(g n),  dx = r (g w - n mean(g w n))
Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>& needs_grad) {
  const at::Tensor& x = saved.tensors[0];
  const at::Tensor& w = saved.tensors[1];
  const at::Tensor& r = saved.tensors[2];
  const at::Tensor grad = grad_outputs[0].to(at::kFloat);
  const at::Tensor n = x.to(at::kFloat) * r;
  Tensors grads(2);
  if (needs_grad[0]) {
    const at::Tensor gw = grad * w.to(at::kFloat).add(attributes.numbers[1]);
    const at::Tensor mean = (gw * n).mean(-1, /*keepdim=*/true);
    grads[0] = gw.addcmul(n, mean, -1.0).mul_(r).to(x.scalar_type());
  }
  if (needs_grad[1]) grads[1] = (grad * n).flatten(0, -2).sum(0).to(w.scalar_type());
  return grads;
}

}  // namespace

OpImplementation rms_norm_reference() {
  return {"rms_norm", "reference", 0, {}, forward, backward};
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  return call("rms_norm", {x, weight}, {{eps, offset}, {}})[0];
}

}  // namespace espalier::ops
