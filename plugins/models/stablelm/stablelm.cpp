// StableLM: a Llama with LayerNorm, rotary positions on part of each head and, in some sizes, a
// norm of its own for every head, or attention and MLP side by side. Bellagente et al. 2024,
// "Stable LM 2 1.6B".
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
  defaults.num_key_value_heads = 32;
  defaults.max_position_embeddings = 4096;
  defaults.norm_eps_key = "layer_norm_eps";
  defaults.norm_eps = 1e-5;
  defaults.rotary.partial = 0.25;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  read.require(spec.head_dim * spec.num_attention_heads == spec.hidden_size, "num_attention_heads",
               "hidden_size / head_dim");
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps, /*bias=*/true};
  spec.query_key_value_bias = read.flag("use_qkv_bias", false);
  if (read.flag("qk_layernorm", false)) {
    spec.names.query_norm = "self_attn.q_layernorm.norms.{}";
    spec.names.key_norm = "self_attn.k_layernorm.norms.{}";
    spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kEachHead,
                           {nn::NormKind::kLayer, spec.norm.eps}};
  }
  if (read.flag("use_parallel_residual", false)) {
    spec.residual = nn::ResidualPlan::kParallel;
    spec.names.mlp_norm = "";
  }
  return spec;
}

class StableLmProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, StableLmProvider>("stablelm", "StableLM decoders")
      .serves("architectures", {"StableLmForCausalLM"})
      .serves("model_types", {"stablelm"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.stablelm", "0.1.0", espalier::register_components)
