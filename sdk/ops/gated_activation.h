#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

enum class Activation : std::int64_t {
  kSilu = 0,
  kGelu,
  kGeluTanh,
  kRelu,
  kReluSquared,
  kQuickGelu
};

/// From the names in config.json ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu",
/// "relu2", ...). Throws Error(kBadInput) with the known names.
ESPALIER_API Activation activation_from_name(const std::string& name);

/// Elementwise activation with gradient; ATen's own.
ESPALIER_API at::Tensor activate(const at::Tensor& x, Activation activation);

/// activation(gate) * up, elementwise; both [rows, columns]. Shazeer 2020, "GLU Variants Improve
/// Transformer".
ESPALIER_API at::Tensor gated_activation(const at::Tensor& gate, const at::Tensor& up,
                                         Activation activation);

}  // namespace espalier::ops
