// Gemma 2: a Gemma with norms before and after attention and MLP, a sliding window in every other
// layer, and soft caps on attention scores and logits. Gemma Team 2024, "Gemma 2: Improving Open
// Language Models at a Practical Size".
#include <cmath>

#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 4;
  defaults.head_dim = 256;
  defaults.max_position_embeddings = 8192;
  defaults.activation_key = "hidden_activation";
  defaults.activation = "gelu_pytorch_tanh";
  defaults.tie_word_embeddings = true;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.names.attention_output_norm = "post_attention_layernorm";
  spec.names.mlp_norm = "pre_feedforward_layernorm";
  spec.names.mlp_output_norm = "post_feedforward_layernorm";
  spec.norm.weight_offset = 1.0;
  spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.attention_scale = 1.0 / std::sqrt(read.positive_number("query_pre_attn_scalar", 256));
  spec.attention_soft_cap = read.optional_number("attn_logit_softcapping", 50.0);
  spec.logit_soft_cap = read.optional_number("final_logit_softcapping", 30.0);
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers, [](std::int64_t layer) { return layer % 2 == 0; });
  nn::set_sliding_windows(spec, config, slides, nn::sliding_window_from_config(config, 4096));
  return spec;
}

class Gemma2Provider final : public ModelProvider {
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
  registrar.add<ModelProvider, Gemma2Provider>("gemma2", "Gemma 2 decoders")
      .serves("architectures", {"Gemma2ForCausalLM"})
      .serves("model_types", {"gemma2"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.gemma2", "0.1.0", espalier::register_components)
