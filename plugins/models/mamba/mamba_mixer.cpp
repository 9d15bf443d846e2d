#include "mamba_mixer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>

#include <cmath>

#include "espalier/nn/recurrent_state.h"

namespace espalier::mamba {

MambaMixer::MambaMixer(const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
                       const MambaMixerSpec& spec, std::int64_t layer)
    : spec_(spec), layer_(layer), activation_(decoder.activation) {
  nn::ModuleScope here = scope.child("mixer");
  const std::int64_t width = decoder.intermediate_size;
  const Dimension embed = nn::dimension("embed", decoder.hidden_size);
  const Dimension inner = nn::dimension("mlp", width);
  const Dimension pair{{inner.segments[0], inner.segments[0]}};
  const Dimension rank = nn::dimension("time_step", spec.time_step_rank);
  const Dimension state = nn::dimension("state", spec.state_size);
  const Dimension selected{{rank.segments[0], state.segments[0], state.segments[0]}};

  a_log_ = here.parameter("A_log", {inner, state}, {Initialisation::Kind::kLogIndex});
  skip_ = here.parameter("D", {inner}, {Initialisation::Kind::kOnes});
  in_ = nn::make_linear(here, decoder, "in_proj", pair, embed, spec.use_bias);
  convolution_ = std::make_unique<nn::CausalConvolution>(here.child("conv1d"), inner,
                                                         spec.conv_kernel, spec.use_conv_bias);
  selection_ = nn::make_linear(here, decoder, "x_proj", selected, inner, false);
  nn::LinearSpec time_step{inner, rank, /*bias=*/true};
  time_step.weight_start = {
      .kind = Initialisation::Kind::kUniform,
      .bound = spec.time_step_scale / std::sqrt(static_cast<double>(spec.time_step_rank))};
  time_step.bias_start = {.kind = Initialisation::Kind::kTimeStep,
                          .minimum = spec.time_step_minimum,
                          .maximum = spec.time_step_maximum};
  time_step_ = std::make_unique<nn::Linear>(here.child("dt_proj"), time_step);
  out_ = nn::make_linear(here, decoder, "out_proj", embed, inner, spec.use_bias);
}

at::Tensor MambaMixer::forward(const at::Tensor& hidden, const BatchContext& context,
                               CarriedTensors&) {
  const at::Tensor projected = in_->forward(hidden);
  const std::int64_t width = projected.size(-1) / 2;
  const at::Tensor gate = projected.narrow(-1, width, width);
  const at::Tensor x = ops::activate(
      nn::convolve_documents(*convolution_, projected.narrow(-1, 0, width), context, layer_),
      activation_);  // [tokens, inner]

  const at::Tensor selected = selection_->forward(x);
  const std::int64_t rank = spec_.time_step_rank;
  const at::Tensor dt = at::softplus(time_step_->forward(selected.narrow(-1, 0, rank)));
  ops::ScanInputs scan;  // every channel is a head of its own
  scan.x = x.unsqueeze(-1);
  scan.dt = dt;
  scan.a = -at::exp(a_log_->computed().to(at::kFloat));
  scan.b = selected.narrow(-1, rank, spec_.state_size).unsqueeze(1);
  scan.c = selected.narrow(-1, rank + spec_.state_size, spec_.state_size).unsqueeze(1);
  const at::Tensor scanned = nn::scan_documents(scan, context, layer_).squeeze(-1);
  const at::Tensor mixed = scanned + x * skip_->computed().to(at::kFloat);
  return out_->forward((mixed * at::silu(gate)).to(hidden.scalar_type()));
}

}  // namespace espalier::mamba
