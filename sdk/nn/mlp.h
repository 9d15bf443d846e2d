#pragma once

#include <memory>

#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/mixer.h"

namespace espalier::nn {

/// down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a gate. Gate and up may be
/// one projection, the gate first.
class ESPALIER_API Mlp final : public Mixer {
 public:
  Mlp(const ModuleScope& scope, const DecoderSpec& spec);
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                     CarriedTensors& carried) override;

 private:
  ops::Activation activation_;
  std::unique_ptr<Linear> fused_gate_up_;
  std::unique_ptr<Linear> gate_;
  std::unique_ptr<Linear> up_;
  std::unique_ptr<Linear> down_;
};

}  // namespace espalier::nn
