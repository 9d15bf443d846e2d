// OPT: LayerNorm, learned positions that start at row 2, biases, a ReLU; in the 350M model the
// norms come after the sums and the embedding is narrower than the layers. Zhang et al. 2022, "OPT:
// Open Pre-trained Transformer Language Models".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderNames names() {
  nn::DecoderNames names;
  names.embedding = "model.decoder.embed_tokens";
  names.positions = "model.decoder.embed_positions";
  names.layer = "model.decoder.layers.{}";
  names.final_norm = "model.decoder.final_layer_norm";
  names.attention_norm = "self_attn_layer_norm";
  names.mlp_norm = "final_layer_norm";
  names.attention_output = "self_attn.out_proj";
  names.gate = "";
  names.up = "fc1";
  names.down = "fc2";
  return names;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::DecoderSpec spec;
  spec.names = names();
  spec.vocab_size = read.size("vocab_size");
  spec.hidden_size = read.size("hidden_size");
  spec.embedding_size = read.size("word_embed_proj_dim", spec.hidden_size);
  spec.intermediate_size = read.size("ffn_dim");
  spec.num_layers = read.size("num_hidden_layers");
  spec.num_attention_heads = read.size("num_attention_heads");
  read.require(spec.hidden_size % spec.num_attention_heads == 0, "num_attention_heads",
               "a divisor of hidden_size");
  spec.num_key_value_heads = spec.num_attention_heads;
  spec.head_dim = spec.hidden_size / spec.num_attention_heads;
  spec.max_positions = read.size("max_position_embeddings", 2048);
  spec.position_offset = 2;
  spec.padding_id = read.padding_id(spec.vocab_size);
  if (spec.embedding_size != spec.hidden_size) {
    spec.names.embedding_projection = "model.decoder.project_in";
    spec.names.output_projection = "model.decoder.project_out";
  }
  const bool affine = read.flag("layer_norm_elementwise_affine", true);
  spec.norm = {nn::NormKind::kLayer, 1e-5, /*bias=*/true, 0.0, affine};
  const bool norm_before = read.flag("do_layer_norm_before", true);
  if (!norm_before) spec.residual = nn::ResidualPlan::kPostNorm;
  if (!norm_before || read.flag("_remove_final_layer_norm", false)) spec.names.final_norm = "";
  spec.activation = ops::activation_from_name(read.text("activation_function", "relu"));
  const bool bias = read.flag("enable_bias", true);
  spec.query_key_value_bias = bias;
  spec.attention_output_bias = bias;
  spec.mlp_bias = bias;
  spec.tie_word_embeddings = read.flag("tie_word_embeddings", true);
  spec.initializer_range = read.number("init_std", 0.02);
  return spec;
}

class OptProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, OptProvider>("opt", "OPT decoders")
      .serves("architectures", {"OPTForCausalLM"})
      .serves("model_types", {"opt"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.opt", "0.1.0", espalier::register_components)
