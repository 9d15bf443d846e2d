// Memory: nothing but the results; in float32 the values lie where the logits were.
#include "espalier/ops/softmax_tile.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/maximum.h>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

// inputs: logits, maximum, sum; integers: whether the values may be written over the logits;
// outputs: values, maximum, sum, factor
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved&) {
  at::Tensor values = inputs[0].to(at::kFloat);  // the same tensor where it is float32
  const at::Tensor maximum =
      values.size(1) == 0 ? inputs[1].clone() : at::maximum(inputs[1], values.amax({1}));
  const bool over = attributes.integers[0] != 0 || !values.is_same(inputs[0]);
  values = over ? values.sub_(maximum.unsqueeze(1)) : values - maximum.unsqueeze(1);
  values.exp_();
  const at::Tensor factor = (inputs[1] - maximum).exp_();
  return {values.to(inputs[0].scalar_type()), maximum, inputs[2] * factor + values.sum(1), factor};
}

Tensors backward(const Saved&, const OpAttributes&, const Tensors&, const std::vector<bool>&) {
  return Tensors(3);  // a part of nodes that have gradients of their own
}

}  // namespace

OpImplementation softmax_tile_reference() {
  return {"softmax_tile", "reference", 0, {}, forward, backward};
}

SoftmaxTile softmax_tile(const at::Tensor& logits, const RunningSoftmax& before) {
  const at::NoGradGuard no_grad;
  const Tensors results = call("softmax_tile", {logits, before.maximum, before.sum}, {{}, {1}});
  return {results[0], {results[1], results[2]}, results[3]};
}

}  // namespace espalier::ops
