#include "espalier/nn/mlp.h"

namespace espalier::nn {

Mlp::Mlp(const ModuleScope& scope, const DecoderSpec& spec) : activation_(spec.activation) {
  const DecoderNames& names = spec.names;
  const Dimension embed = dimension("embed", spec.hidden_size);
  const Dimension inner = dimension("mlp", spec.intermediate_size);
  if (!names.fused_gate_up.empty()) {
    const Dimension both{{inner.segments[0], inner.segments[0]}};
    fused_gate_up_ = make_linear(scope, spec, names.fused_gate_up, both, embed, spec.mlp_bias);
  } else {
    if (!names.gate.empty())
      gate_ = make_linear(scope, spec, names.gate, inner, embed, spec.mlp_bias);
    up_ = make_linear(scope, spec, names.up, inner, embed, spec.mlp_bias);
  }
  down_ = make_linear(scope, spec, names.down, embed, inner, spec.mlp_bias);
  if (gate_) {
    ModuleScope owner = scope;
    owner.parts().linear_groups.push_back({scope.qualified("gate_up"), {gate_.get(), up_.get()}});
  }
}

at::Tensor Mlp::forward(const at::Tensor& hidden, const BatchContext&, CarriedTensors&) {
  if (fused_gate_up_) {
    const at::Tensor both = fused_gate_up_->forward(hidden);  // [tokens, 2 * intermediate]
    const std::int64_t half = both.size(-1) / 2;
    return down_->forward(
        ops::gated_activation(both.narrow(-1, 0, half), both.narrow(-1, half, half), activation_));
  }
  if (!gate_) return down_->forward(ops::activate(up_->forward(hidden), activation_));
  return down_->forward(
      ops::gated_activation(gate_->forward(hidden), up_->forward(hidden), activation_));
}

}  // namespace espalier::nn
