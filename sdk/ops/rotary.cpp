#include "espalier/ops/rotary.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

/// [tokens, heads, head_dim] by angle (or its negative, which is the inverse and so the backward
/// pass).
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  bool interleaved, double direction) {
  const std::int64_t half = cos.size(1);
  // In the dtype of x throughout, as in transformers: 16 bits are rounded after each operation.
  const at::Tensor c = cos.unsqueeze(1).to(x.scalar_type());  // [tokens, 1, half]
  const at::Tensor s = sin.unsqueeze(1).to(x.scalar_type()) * direction;
  const at::Tensor turned = x.narrow(-1, 0, 2 * half);
  at::Tensor result;
  if (interleaved) {
    const at::Tensor pairs = turned.unflatten(-1, {half, 2});  // [tokens, heads, half, 2]
    const at::Tensor a = pairs.select(-1, 0);
    const at::Tensor b = pairs.select(-1, 1);
    result = at::stack({a * c - b * s, b * c + a * s}, -1).flatten(-2, -1);
  } else {
    const at::Tensor a = turned.narrow(-1, 0, half);
    const at::Tensor b = turned.narrow(-1, half, half);
    result = at::cat({a * c - b * s, b * c + a * s}, -1);
  }
  if (2 * half == x.size(-1)) return result;
  return at::cat({result, x.narrow(-1, 2 * half, x.size(-1) - 2 * half)}, -1);
}

// inputs: x, cos, sin; integers: interleaved; saved: cos, sin
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  saved.tensors = {inputs[1], inputs[2]};
  return {rotate(inputs[0], inputs[1], inputs[2], attributes.integers[0] != 0, 1.0)};
}

Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>&) {
  return {rotate(grad_outputs[0], saved.tensors[0], saved.tensors[1], attributes.integers[0] != 0,
                 -1.0),
          {},
          {}};
}

}  // namespace

OpImplementation rotary_reference() { return {"rotary", "reference", 0, {}, forward, backward}; }

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  bool interleaved) {
  return call("rotary", {x, cos, sin}, {{}, {interleaved ? 1 : 0}})[0];
}

}  // namespace espalier::ops
