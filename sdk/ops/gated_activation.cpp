#include "espalier/ops/gated_activation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/threshold_backward.h>

#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"
#include "espalier/ops/reference.h"

namespace espalier::ops {
namespace {

constexpr double kQuickGeluSlope = 1.702;

/// Derivative times `grad`.
at::Tensor activation_backward(const at::Tensor& grad, const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kSilu: return at::silu_backward(grad, x);
    case Activation::kGelu: return at::gelu_backward(grad, x, "none");
    case Activation::kGeluTanh: return at::gelu_backward(grad, x, "tanh");
    case Activation::kRelu: return at::threshold_backward(grad, x, 0);
    case Activation::kReluSquared: return grad * at::relu(x) * 2;
    case Activation::kQuickGelu: {
      const at::Tensor s = at::sigmoid(x * kQuickGeluSlope);
      return grad * (s + x * s * (1 - s) * kQuickGeluSlope);
    }
  }
  return {};
}

// inputs: gate, up; integers: activation; saved: gate, up (the activation is computed again)
Tensors forward(const Tensors& inputs, const OpAttributes& attributes, Saved& saved) {
  saved.tensors = {inputs[0], inputs[1]};
  return {activate(inputs[0], static_cast<Activation>(attributes.integers[0])).mul_(inputs[1])};
}

Tensors backward(const Saved& saved, const OpAttributes& attributes, const Tensors& grad_outputs,
                 const std::vector<bool>& needs_grad) {
  const auto activation = static_cast<Activation>(attributes.integers[0]);
  const at::Tensor& gate = saved.tensors[0];
  const at::Tensor& up = saved.tensors[1];
  Tensors grads(2);
  if (needs_grad[0]) grads[0] = activation_backward(grad_outputs[0] * up, gate, activation);
  if (needs_grad[1]) grads[1] = grad_outputs[0] * activate(gate, activation);
  return grads;
}

}  // namespace

Activation activation_from_name(const std::string& name) {
  static const std::unordered_map<std::string, Activation> kNames = {
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
      {"gelu", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh},
      {"relu", Activation::kRelu},
      {"relu2", Activation::kReluSquared},
      {"quick_gelu", Activation::kQuickGelu}};
  const auto found = kNames.find(name);
  if (found != kNames.end()) return found->second;
  std::vector<std::string> known;
  known.reserve(kNames.size());
  for (const auto& [known_name, activation] : kNames) known.push_back(known_name);
  throw_bad_input("unknown activation function", name, "one of " + join_names(known),
                  "config.json: hidden_act", did_you_mean(name, known));
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kSilu: return at::silu(x);
    case Activation::kGelu: return at::gelu(x, "none");
    case Activation::kGeluTanh: return at::gelu(x, "tanh");
    case Activation::kRelu: return at::relu(x);
    case Activation::kReluSquared: return at::relu(x).square();
    case Activation::kQuickGelu: return x * at::sigmoid(x * kQuickGeluSlope);
  }
  return {};
}

OpImplementation gated_activation_reference() {
  return {"gated_activation", "reference", 0, {}, forward, backward};
}

at::Tensor gated_activation(const at::Tensor& gate, const at::Tensor& up, Activation activation) {
  return call("gated_activation", {gate, up}, {{}, {static_cast<std::int64_t>(activation)}})[0];
}

}  // namespace espalier::ops
