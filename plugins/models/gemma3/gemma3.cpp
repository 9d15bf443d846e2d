// Gemma 3, the text model: a Gemma 2 with norms on queries and keys instead of the cap on attention
// scores, and rotary positions of another base in the layers that slide. Gemma Team 2025, "Gemma 3
// Technical Report".
#include <cmath>

#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// Rotary 0 is that of full attention, 1 that of sliding layers.
void set_rotary(nn::DecoderSpec& spec, const Value& config, const std::vector<bool>& slides) {
  double global = 1000000.0;
  double local = 10000.0;
  const ConfigReader read(config);
  global = read.number("rope_theta", global);
  local = read.number("rope_local_base_freq", local);
  spec.rotary = {
      nn::rotary_spec_of_layer_type(config, spec.head_dim, "full_attention", global,
                                    read.find("rope_scaling")),
      nn::rotary_spec_of_layer_type(config, spec.head_dim, "sliding_attention", local, nullptr)};
  spec.layers.resize(slides.size());
  for (std::size_t layer = 0; layer < slides.size(); ++layer)
    spec.layers[layer].rotary = slides[layer] ? 1 : 0;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 4;
  defaults.head_dim = 256;
  defaults.max_position_embeddings = 131072;
  defaults.activation_key = "hidden_activation";
  defaults.activation = "gelu_pytorch_tanh";
  defaults.tie_word_embeddings = true;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.names.attention_output_norm = "post_attention_layernorm";
  spec.names.mlp_norm = "pre_feedforward_layernorm";
  spec.names.mlp_output_norm = "post_feedforward_layernorm";
  spec.norm.weight_offset = 1.0;
  spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kHead, spec.norm};
  spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.attention_scale = 1.0 / std::sqrt(read.positive_number("query_pre_attn_scalar", 256));
  // transformers reads `attn_logit_softcapping` too, and never applies it in this family.
  spec.logit_soft_cap = read.optional_number("final_logit_softcapping", std::nullopt);

  const std::int64_t pattern = read.size("sliding_window_pattern", 6);
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers, [&](std::int64_t layer) { return (layer + 1) % pattern != 0; });
  set_rotary(spec, config, slides);
  nn::set_sliding_windows(spec, config, slides, nn::sliding_window_from_config(config, 4096));
  return spec;
}

class Gemma3Provider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    return ConfigReader(config).flag("use_bidirectional_attention", false)
               ? "use_bidirectional_attention is not supported: decoders here are causal"
               : "";
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Gemma3Provider>("gemma3", "Gemma 3 text decoders")
      .serves("architectures", {"Gemma3ForCausalLM"})
      .serves("model_types", {"gemma3_text"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.gemma3", "0.1.0", espalier::register_components)
