#include "fused_linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/nn/linear.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Tensors of the head that a gradient is wanted for, each once.
variable_list trainable_tensors(Head& head) {
  const nn::Linear& linear = head.linear();
  std::vector<std::shared_ptr<Parameter>> parameters = linear.storage().components();
  parameters.push_back(linear.weight());
  if (linear.bias() != nullptr) parameters.push_back(linear.bias());
  for (const auto& extension : linear.extensions()) {
    for (const auto& parameter : extension->parameters()) parameters.push_back(parameter);
  }
  variable_list tensors;
  for (const auto& parameter : parameters) {
    const at::Tensor& tensor = parameter->computed();
    const bool known = std::any_of(tensors.begin(), tensors.end(),
                                   [&](const at::Tensor& t) { return t.is_same(tensor); });
    if (tensor.requires_grad() && !known) tensors.push_back(tensor);
  }
  return tensors;
}

/// A loss whose gradients are known already: `gradients[i]` belongs to `inputs[i]`.
struct KnownGradients : torch::autograd::Function<KnownGradients> {
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs, const at::Tensor& loss,
                            variable_list gradients) {
    context->saved_data["count"] = static_cast<std::int64_t>(inputs.size());
    context->saved_data["gradients"] = std::move(gradients);
    return loss.clone();
  }

  // Scaled in place: they are as large as the weights, and a graph is walked once.
  static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
    const auto stored = context->saved_data.find("gradients");
    ESPALIER_ASSERT(stored != context->saved_data.end(), "a fused loss has one backward pass");
    variable_list gradients = stored->second.toTensorVector();
    context->saved_data.erase(stored);
    for (at::Tensor& gradient : gradients) {
      if (gradient.defined()) gradient.mul_(grad_outputs[0].to(gradient.scalar_type()));
    }
    // The loss and the gradients were arguments too.
    gradients.resize(static_cast<std::size_t>(context->saved_data["count"].toInt()) + 2);
    return gradients;
  }
};

}  // namespace

at::Tensor fused_linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& labels,
                                      Head& head, const ops::CrossEntropyOptions& options,
                                      std::int64_t rows_per_chunk) {
  const std::int64_t rows = hidden.size(0);
  variable_list weights = trainable_tensors(head);
  const bool wanted = at::GradMode::is_enabled() && (hidden.requires_grad() || !weights.empty());
  double sum = 0;
  at::Tensor hidden_gradient;
  if (wanted) hidden_gradient = at::zeros(hidden.sizes(), hidden.options().requires_grad(false));
  variable_list weight_gradients(weights.size());
  for (std::int64_t begin = 0; begin < rows; begin += rows_per_chunk) {
    const std::int64_t count = std::min(rows_per_chunk, rows - begin);
    const at::Tensor chunk =
        hidden.detach().narrow(0, begin, count).set_requires_grad(wanted && hidden.requires_grad());
    const at::Tensor loss =
        ops::cross_entropy(head, chunk, labels.narrow(0, begin, count), options);
    sum += loss.item<double>();
    if (!wanted) continue;
    variable_list inputs = weights;
    if (hidden.requires_grad()) inputs.insert(inputs.begin(), chunk);
    const variable_list gradients = torch::autograd::grad(
        {loss}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
    const std::size_t first = hidden.requires_grad() ? 1 : 0;
    if (first == 1) hidden_gradient.narrow(0, begin, count).copy_(gradients[0]);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const at::Tensor& gradient = gradients[first + i];
      if (!gradient.defined()) continue;
      if (weight_gradients[i].defined())
        weight_gradients[i].add_(gradient);
      else
        weight_gradients[i] = gradient;
    }
  }
  at::Tensor loss = at::zeros({}, at::TensorOptions().dtype(at::kFloat)).fill_(sum);
  if (!wanted) return loss;
  variable_list inputs = {hidden};
  variable_list gradients = {hidden_gradient};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    inputs.push_back(weights[i]);
    gradients.push_back(weight_gradients[i].defined() ? weight_gradients[i]
                                                      : at::zeros_like(weights[i].detach()));
  }
  return KnownGradients::apply(at::TensorList(inputs), loss, gradients);
}

}  // namespace espalier
