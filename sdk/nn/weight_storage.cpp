#include "espalier/nn/weight_storage.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/ops/decode_linear.h"

namespace espalier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// y = x W^T with W stored in another dtype than x. Only x and the stored W are kept for the
/// backward pass.
struct ConvertingLinear : torch::autograd::Function<ConvertingLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight) {
    context->save_for_backward({input, weight});
    return at::linear(input, weight.to(input.scalar_type()));
  }

  static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& input = saved[0];
    const at::Tensor& weight = saved[1];
    const at::Tensor& grad = grad_outputs[0];
    variable_list grads(2);
    if (context->needs_input_grad(0)) grads[0] = at::mm(grad, weight.to(grad.scalar_type()));
    if (context->needs_input_grad(1)) grads[1] = at::mm(grad.t(), input).to(weight.scalar_type());
    return grads;
  }
};

}  // namespace

WeightStorage::~WeightStorage() = default;

at::Tensor DenseWeight::linear(const at::Tensor& input, const at::Tensor& bias) const {
  const at::Tensor& weight = weight_->computed();
  if (ops::decodes(input)) return ops::decode_linear(input, weight, bias);
  const at::Tensor converted_bias = bias.defined() ? bias.to(input.scalar_type()) : bias;
  if (weight.scalar_type() == input.scalar_type()) return at::linear(input, weight, converted_bias);
  at::Tensor output = ConvertingLinear::apply(input, weight);
  return bias.defined() ? output.add(converted_bias) : output;
}

at::Tensor DenseWeight::rows(const at::Tensor& ids, at::ScalarType dtype) const {
  return at::embedding(weight_->computed(), ids).to(dtype);
}

at::Tensor DenseWeight::dense(at::ScalarType dtype) const { return weight_->computed().to(dtype); }

std::int64_t DenseWeight::bytes() const {
  return static_cast<std::int64_t>(weight_->value().nbytes());
}

}  // namespace espalier::nn
