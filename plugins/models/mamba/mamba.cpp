// Mamba: layers of one selective state space each, without attention or positions. Gu and Dao 2023,
// "Mamba: Linear-Time Sequence Modeling with Selective State Spaces".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/nn/mixer_block.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"
#include "mamba_mixer.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::DecoderSpec spec;
  spec.names.embedding = "backbone.embeddings";
  spec.names.layer = "backbone.layers.{}";
  spec.names.attention_norm = "norm";
  spec.names.final_norm = "backbone.norm_f";
  spec.vocab_size = read.size("vocab_size", 50280);
  spec.hidden_size = read.size("hidden_size", 768);
  spec.num_layers = read.size("num_hidden_layers", 32);
  spec.intermediate_size = static_cast<std::int64_t>(read.positive_number("expand", 2) *
                                                     static_cast<double>(spec.hidden_size));
  spec.norm.eps = read.number("layer_norm_epsilon", 1e-5);
  spec.activation = ops::activation_from_name(read.text("hidden_act", "silu"));
  spec.tie_word_embeddings = read.flag("tie_word_embeddings", true);
  spec.initializer_range = read.number("initializer_range", 0.1);
  spec.recurrent = true;
  return spec;
}

mamba::MambaMixerSpec mixer_spec(const Value& config, const nn::DecoderSpec& decoder) {
  const ConfigReader read(config);
  mamba::MambaMixerSpec spec;
  spec.state_size = read.size("state_size", 16);
  spec.conv_kernel = read.size("conv_kernel", 4);
  const Value* rank = read.find("time_step_rank");
  spec.time_step_rank = rank == nullptr || rank->is_string() ? (decoder.hidden_size + 15) / 16
                                                             : read.size("time_step_rank");
  spec.use_bias = read.flag("use_bias", false);
  spec.use_conv_bias = read.flag("use_conv_bias", true);
  spec.time_step_scale = read.number("time_step_scale", 1.0);
  spec.time_step_minimum =
      std::max(read.positive_number("time_step_min", 0.001), read.number("time_step_floor", 1e-4));
  spec.time_step_maximum = read.positive_number("time_step_max", 0.1);
  return spec;
}

class MambaProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    nn::DecoderSpec spec = decoder_spec(config);
    const mamba::MambaMixerSpec mixer = mixer_spec(config, spec);
    const bool residual_in_float32 = ConfigReader(config).flag("residual_in_fp32", true);
    nn::DecoderParts parts;
    parts.block = [mixer, residual_in_float32](ModelParts& model, const nn::DecoderSpec& decoder,
                                               std::int64_t layer) -> std::unique_ptr<Block> {
      const auto make_mixer = [&](const nn::ModuleScope& scope, const nn::DecoderSpec& outer,
                                  std::int64_t number) -> std::unique_ptr<nn::Mixer> {
        return std::make_unique<mamba::MambaMixer>(scope, outer, mixer, number);
      };
      return std::make_unique<nn::MixerBlock>(model, decoder, layer, make_mixer,
                                              residual_in_float32);
    };
    return std::make_unique<nn::DecoderModel>(std::move(spec), std::move(parts));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, MambaProvider>("mamba", "Mamba state space models")
      .serves("architectures", {"MambaForCausalLM"})
      .serves("model_types", {"mamba"})
      .property("capabilities", decoder_capabilities());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.mamba", "0.1.0", espalier::register_components)
