// Phi 1, 1.5 and 2: LayerNorm, attention and MLP side by side behind one norm, rotary positions on
// part of each head, biases everywhere, also on the head. Li et al. 2023, "Textbooks Are All You
// Need II".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  nn::ConfigDefaults defaults;
  defaults.norm_eps_key = "layer_norm_eps";
  defaults.norm_eps = 1e-5;
  defaults.activation = "gelu_new";
  defaults.rotary.partial = 0.5;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.names.final_norm = "model.final_layernorm";
  spec.names.mlp_norm = "";
  spec.names.query_norm = "self_attn.q_layernorm";
  spec.names.key_norm = "self_attn.k_layernorm";
  spec.names.attention_output = "self_attn.dense";
  spec.names.gate = "";
  spec.names.up = "mlp.fc1";
  spec.names.down = "mlp.fc2";
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps, /*bias=*/true};
  spec.residual = nn::ResidualPlan::kParallel;
  spec.query_key_value_bias = true;
  spec.attention_output_bias = true;
  spec.mlp_bias = true;
  spec.head_bias = true;
  if (ConfigReader(config).flag("qk_layernorm", false))
    spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kHead, spec.norm};
  return spec;
}

class PhiProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, PhiProvider>("phi", "Phi 1, 1.5 and 2 decoders")
      .serves("architectures", {"PhiForCausalLM"})
      .serves("model_types", {"phi"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.phi", "0.1.0", espalier::register_components)
