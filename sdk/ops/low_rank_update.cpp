// Memory: x is kept for the gradient of a, and [rows, r]; nothing of the output's size.
#include "espalier/ops/low_rank_update.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include <tuple>
#include <utility>

#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kOp = "low_rank_update";

// saved: x, a, b, x a^T
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  const at::Tensor& output = inputs[0];
  const double scale = attributes.numbers[0];
  const at::Tensor inner = at::linear(inputs[1], inputs[2]);  // [rows, r]
  saved.tensors = {inputs[1], inputs[2], inputs[3], inner};
  if (attributes.integers[0] == 0) return {at::addmm(output, inner, inputs[3].t(), 1, scale)};
  return {output.addmm_(inner, inputs[3].t(), 1, scale)};
}

// With u = scale g b:  dx = u a,  da = u^T x,  db = scale g^T (x a^T)
Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>& needs_grad) {
  const auto& [x, a, b, inner] =
      std::tie(saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3]);
  const double scale = attributes.numbers[0];
  const at::Tensor& grad = grad_outputs[0];
  Tensors grads(4);
  if (needs_grad[0]) grads[0] = grad;
  if (needs_grad[1] || needs_grad[2]) {
    const at::Tensor grad_inner = at::mm(grad, b).mul_(scale);  // [rows, r]
    if (needs_grad[1]) grads[1] = at::mm(grad_inner, a);
    if (needs_grad[2]) grads[2] = at::mm(grad_inner.t(), x);
  }
  if (needs_grad[3]) grads[3] = at::mm(grad.t(), inner).mul_(scale);
  return grads;
}

/// The implementation's passes around an output that is written over, which the node of other ops
/// knows nothing of.
struct AddLowRank : torch::autograd::Function<AddLowRank> {
  static at::Tensor forward(AutogradContext* context, at::Tensor output, const at::Tensor& x,
                            const at::Tensor& a, const at::Tensor& b,
                            const OpImplementation* implementation,
                            const OpAttributes& attributes) {
    Saved saved;
    const Tensors results = implementation->forward({output, x, a, b}, attributes, saved);
    if (!results[0].is_same(output)) output.copy_(results[0]);
    context->mark_dirty({output});
    context->save_for_backward(std::move(saved.tensors));
    // The table never shrinks, so the pointer outlives the graph.
    context->saved_data["implementation"] =
        implementation - OpTable::instance().implementations().data();
    context->saved_data["scale"] = attributes.numbers[0];
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const OpImplementation* implementation = OpTable::instance().implementations().data() +
                                             context->saved_data["implementation"].toInt();
    const OpAttributes attributes{{context->saved_data["scale"].toDouble()}, {1}};
    std::vector<bool> needs_grad;
    for (std::size_t i = 0; i < 4; ++i) needs_grad.push_back(context->needs_input_grad(i));
    variable_list grads = implementation->backward({context->get_saved_variables()}, attributes,
                                                   grad_outputs, needs_grad);
    grads.resize(6);  // the implementation and the attributes have none
    return grads;
  }
};

}  // namespace

OpImplementation low_rank_update_reference() {
  return {kOp, "reference", 0, {}, forward, backward};
}

at::Tensor add_low_rank(at::Tensor output, const at::Tensor& x, const at::Tensor& a,
                        const at::Tensor& b, double scale) {
  const OpAttributes attributes{{scale}, {1}};
  const OpImplementation& implementation =
      OpTable::instance().select(kOp, {output, x, a, b}, attributes);
  return AddLowRank::apply(std::move(output), x, a, b, &implementation, attributes);
}

}  // namespace espalier::ops
