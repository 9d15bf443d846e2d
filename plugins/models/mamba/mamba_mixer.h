#pragma once

#include <memory>

#include "espalier/nn/causal_convolution.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/mixer.h"

namespace espalier::mamba {

/// Names as in config.json.
struct MambaMixerSpec {
  std::int64_t state_size = 0;
  std::int64_t conv_kernel = 0;
  std::int64_t time_step_rank = 0;
  bool use_bias = false;
  bool use_conv_bias = true;
  // How time steps start without a checkpoint.
  double time_step_scale = 1.0;
  double time_step_minimum = 0.001;
  double time_step_maximum = 0.1;
};

/// x, z = in(hidden);  x = act(conv(x));  dt, b, c from x;  out((scan(x, dt, b, c) + D x) silu(z)):
/// hidden [tokens, embed] -> [tokens, embed].
class MambaMixer final : public nn::Mixer {
 public:
  MambaMixer(const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
             const MambaMixerSpec& spec, std::int64_t layer);
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                     CarriedTensors& carried) override;

 private:
  MambaMixerSpec spec_;
  std::int64_t layer_;
  ops::Activation activation_;
  std::unique_ptr<nn::Linear> in_;
  std::unique_ptr<nn::CausalConvolution> convolution_;
  std::unique_ptr<nn::Linear> selection_;
  std::unique_ptr<nn::Linear> time_step_;
  std::shared_ptr<Parameter> a_log_;
  std::shared_ptr<Parameter> skip_;
  std::unique_ptr<nn::Linear> out_;
};

}  // namespace espalier::mamba
