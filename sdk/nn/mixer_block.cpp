#include "espalier/nn/mixer_block.h"

#include <ATen/TensorOperators.h>

namespace espalier::nn {

MixerBlock::MixerBlock(ModelParts& parts, const DecoderSpec& spec, std::int64_t layer,
                       const DecoderParts::MixerFactory& make_mixer, bool residual_in_float32)
    : NamedBlock(layer_prefix(spec, layer)), residual_in_float32_(residual_in_float32) {
  const ModuleScope here = scope(parts, name());
  norm_ = std::make_unique<Norm>(here.child(spec.names.attention_norm), spec.norm,
                                 dimension("embed", spec.hidden_size));
  mixer_ = make_mixer(here, spec, layer);
}

BlockState MixerBlock::forward(BlockState state, const BatchContext& context) {
  const at::Tensor normed = norm_->forward(state.hidden.to(context.compute_dtype));
  const at::Tensor mixed = mixer_->forward(normed, context, state.carried);
  if (residual_in_float32_) state.hidden = state.hidden.to(at::kFloat);
  state.hidden = state.hidden + mixed;
  return state;
}

}  // namespace espalier::nn
