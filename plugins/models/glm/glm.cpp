// GLM-4: a Llama with rotary positions on neighbouring channels of half of each head, biases on q,
// k and v, and one projection for gate and up; the later files (glm4) have norms before and after
// attention and MLP. GLM Team 2024, "ChatGLM: A Family of Large Language Models".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec glm_spec(const Value& config) {
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 2;
  defaults.head_dim = 128;
  defaults.max_position_embeddings = 131072;
  defaults.norm_eps = 0.00000015625;
  defaults.rotary.partial = 0.5;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.names.fused_gate_up = "mlp.gate_up_proj";
  spec.rotary[0].interleaved = true;
  spec.query_key_value_bias = ConfigReader(config).flag("attention_bias", true);
  return spec;
}

nn::DecoderSpec glm4_spec(const Value& config) {
  nn::DecoderSpec spec = glm_spec(config);
  spec.names.attention_output_norm = "post_self_attn_layernorm";
  spec.names.mlp_output_norm = "post_mlp_layernorm";
  return spec;
}

class GlmProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(glm_spec(config));
  }
};

class Glm4Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(glm4_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, GlmProvider>("glm", "GLM-4 decoders")
      .serves("architectures", {"GlmForCausalLM"})
      .serves("model_types", {"glm"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
  registrar.add<ModelProvider, Glm4Provider>("glm4", "GLM-4-0414 decoders")
      .serves("architectures", {"Glm4ForCausalLM"})
      .serves("model_types", {"glm4"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.glm", "0.1.0", espalier::register_components)
