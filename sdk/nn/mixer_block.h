#pragma once

#include <memory>
#include <string>

#include "espalier/nn/decoder_block.h"
#include "espalier/nn/mixer.h"
#include "espalier/nn/norm.h"

namespace espalier::nn {

/// A layer with one mixer: h += mixer(norm(h)). `names.attention_norm` is the norm's name.
class ESPALIER_API MixerBlock final : public NamedBlock {
 public:
  /// `residual_in_float32`: h is float32 whatever the dtype of activations.
  MixerBlock(ModelParts& parts, const DecoderSpec& spec, std::int64_t layer,
             const DecoderParts::MixerFactory& make_mixer, bool residual_in_float32);
  BlockState forward(BlockState state, const BatchContext& context) override;

 private:
  bool residual_in_float32_;
  std::unique_ptr<Norm> norm_;
  std::unique_ptr<Mixer> mixer_;
};

}  // namespace espalier::nn
