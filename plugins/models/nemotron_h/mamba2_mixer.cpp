#include "mamba2_mixer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>

#include <algorithm>

#include "espalier/nn/recurrent_state.h"

namespace espalier::nemotron_h {

Mamba2Mixer::Mamba2Mixer(const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
                         const Mamba2MixerSpec& spec, std::int64_t layer)
    : spec_(spec), layer_(layer), norm_eps_(decoder.norm.eps) {
  nn::ModuleScope here = scope.child("mixer");
  const Dimension embed = nn::dimension("embed", decoder.hidden_size);
  const Dimension inner =
      nn::dimension("heads", spec.mamba_num_heads * spec.mamba_head_dim, spec.mamba_head_dim);
  const Dimension shared =
      nn::dimension("groups", spec.n_groups * spec.ssm_state_size, spec.ssm_state_size);
  const Dimension heads = nn::dimension("heads", spec.mamba_num_heads);
  const Dimension convolved{{inner.segments[0], shared.segments[0], shared.segments[0]}};
  const Dimension projected{{inner.segments[0], inner.segments[0], shared.segments[0],
                             shared.segments[0], heads.segments[0]}};

  time_step_bias_ =
      here.parameter("dt_bias", {heads},
                     {.kind = Initialisation::Kind::kTimeStep,
                      .minimum = std::max(spec.time_step_minimum, spec.time_step_floor),
                      .maximum = spec.time_step_maximum});
  a_log_ = here.parameter("A_log", {heads}, {Initialisation::Kind::kLogIndex});
  skip_ = here.parameter("D", {heads}, {Initialisation::Kind::kOnes});
  in_ = nn::make_linear(here, decoder, "in_proj", projected, embed, spec.use_bias);
  convolution_ = std::make_unique<nn::CausalConvolution>(here.child("conv1d"), convolved,
                                                         spec.conv_kernel, spec.use_conv_bias);
  norm_ = here.parameter("norm.weight", {inner}, {Initialisation::Kind::kOnes});
  out_ = nn::make_linear(here, decoder, "out_proj", embed, inner, spec.use_bias);
}

at::Tensor Mamba2Mixer::gated_norm(const at::Tensor& x, const at::Tensor& gate) const {
  const at::Tensor gated = x.to(at::kFloat) * at::silu(gate.to(at::kFloat));
  const at::Tensor grouped = gated.unflatten(-1, {spec_.n_groups, -1});
  const at::Tensor scale = (grouped.square().mean(-1, /*keepdim=*/true) + norm_eps_).rsqrt();
  return (grouped * scale).flatten(-2, -1) * norm_->computed().to(at::kFloat);
}

at::Tensor Mamba2Mixer::forward(const at::Tensor& hidden, const BatchContext& context,
                                CarriedTensors&) {
  const std::int64_t heads = spec_.mamba_num_heads;
  const std::int64_t inner = heads * spec_.mamba_head_dim;
  const std::int64_t shared = spec_.n_groups * spec_.ssm_state_size;
  const at::Tensor projected = in_->forward(hidden);
  const at::Tensor gate = projected.narrow(-1, 0, inner);
  const at::Tensor steps = projected.narrow(-1, 2 * inner + 2 * shared, heads);
  const at::Tensor mixed = ops::activate(
      nn::convolve_documents(*convolution_, projected.narrow(-1, inner, inner + 2 * shared),
                             context, layer_),
      spec_.activation);

  ops::ScanInputs scan;
  scan.x = mixed.narrow(-1, 0, inner).unflatten(-1, {heads, -1});  // [tokens, heads, head_dim]
  scan.dt = at::softplus(steps + time_step_bias_->computed().to(steps.scalar_type()))
                .clamp_min(spec_.time_step_minimum);
  scan.a = -at::exp(a_log_->computed().to(at::kFloat)).unsqueeze(-1);
  scan.b = mixed.narrow(-1, inner, shared).unflatten(-1, {spec_.n_groups, -1});
  scan.c = mixed.narrow(-1, inner + shared, shared).unflatten(-1, {spec_.n_groups, -1});
  const at::Tensor scanned = nn::scan_documents(scan, context, layer_);
  const at::Tensor y = scanned + scan.x * skip_->computed().to(at::kFloat).unsqueeze(-1);
  return out_->forward(gated_norm(y.flatten(-2, -1), gate).to(hidden.scalar_type()));
}

}  // namespace espalier::nemotron_h
