#pragma once

#include <memory>

#include "espalier/nn/causal_convolution.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/mixer.h"

namespace espalier::nemotron_h {

/// Names as in config.json.
struct Mamba2MixerSpec {
  std::int64_t mamba_num_heads = 0;
  std::int64_t mamba_head_dim = 0;
  std::int64_t n_groups = 0;
  std::int64_t ssm_state_size = 0;
  std::int64_t conv_kernel = 0;
  ops::Activation activation = ops::Activation::kSilu;
  bool use_bias = false;
  bool use_conv_bias = true;
  double time_step_minimum = 0.001;  ///< shorter steps are lengthened to it
  double time_step_maximum = 0.1;    ///< of those that are drawn at the start
  double time_step_floor = 1e-4;
};

/// z, u, dt = in(hidden);  x, b, c = act(conv(u));  out(norm((scan(x, dt, b, c) + D x) silu(z)))
/// with one decay a head, and a norm over the channels of each group: hidden [tokens, embed] ->
/// [tokens, embed].
class Mamba2Mixer final : public nn::Mixer {
 public:
  Mamba2Mixer(const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
              const Mamba2MixerSpec& spec, std::int64_t layer);
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                     CarriedTensors& carried) override;

 private:
  at::Tensor gated_norm(const at::Tensor& x, const at::Tensor& gate) const;

  Mamba2MixerSpec spec_;
  std::int64_t layer_;
  double norm_eps_;
  std::unique_ptr<nn::Linear> in_;
  std::unique_ptr<nn::CausalConvolution> convolution_;
  std::shared_ptr<Parameter> time_step_bias_;
  std::shared_ptr<Parameter> a_log_;
  std::shared_ptr<Parameter> skip_;
  std::shared_ptr<Parameter> norm_;
  std::unique_ptr<nn::Linear> out_;
};

}  // namespace espalier::nemotron_h
