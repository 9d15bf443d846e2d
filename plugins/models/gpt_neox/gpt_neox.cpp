// GPT-NeoX and Pythia: LayerNorm, rotary positions on part of each head, q/k/v in one projection
// head by head, attention and MLP side by side. Black et al. 2022, "GPT-NeoX-20B"; Biderman et al.
// 2023.
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// The rotary keys of this family under the names of all others.
Value with_rotary_names(const Value& config) {
  const ConfigReader read(config);
  Value renamed = config;
  Table& table = renamed.as_table();
  table.erase("rope_theta");
  table.erase("partial_rotary_factor");
  table.set("rope_theta", read.number("rotary_emb_base", 10000.0));
  table.set("partial_rotary_factor", read.number("rotary_pct", 0.25));
  table.erase("head_dim");
  table.erase("num_key_value_heads");
  return renamed;
}

nn::DecoderNames names() {
  nn::DecoderNames names;
  names.embedding = "gpt_neox.embed_in";
  names.layer = "gpt_neox.layers.{}";
  names.final_norm = "gpt_neox.final_layer_norm";
  names.head = "embed_out";
  names.fused_query_key_value = "attention.query_key_value";
  names.attention_output = "attention.dense";
  names.gate = "";
  names.up = "mlp.dense_h_to_4h";
  names.down = "mlp.dense_4h_to_h";
  return names;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.norm_eps_key = "layer_norm_eps";
  defaults.norm_eps = 1e-5;
  defaults.activation = "gelu";
  defaults.rotary.partial = 0.25;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(with_rotary_names(config), defaults);
  spec.names = names();
  spec.padding_id = std::nullopt;
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps, /*bias=*/true};
  if (read.flag("use_parallel_residual", true)) spec.residual = nn::ResidualPlan::kParallel;
  spec.fused_layout = nn::FusedLayout::kGroups;
  spec.query_key_value_bias = read.flag("attention_bias", true);
  spec.attention_output_bias = spec.query_key_value_bias;
  spec.mlp_bias = true;
  spec.ignored_on_disk = {"gpt_neox.layers.*.attention.bias",
                          "gpt_neox.layers.*.attention.masked_bias",
                          "gpt_neox.layers.*.attention.rotary_emb.inv_freq"};
  return spec;
}

class GptNeoXProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, GptNeoXProvider>("gpt_neox", "GPT-NeoX and Pythia decoders")
      .serves("architectures", {"GPTNeoXForCausalLM"})
      .serves("model_types", {"gpt_neox"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}))
      .property("token_classification_head", "classifier");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.gpt_neox", "0.1.0", espalier::register_components)
