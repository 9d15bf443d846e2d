// GPT-2: LayerNorm with biases, learned positions, one fused q/k/v projection, weights stored as
// [in, out], an MLP without a gate, tied embeddings. Radford et al. 2019.
#include "espalier/base/error.h"
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderNames names() {
  nn::DecoderNames names;
  names.embedding = "transformer.wte";
  names.positions = "transformer.wpe";
  names.layer = "transformer.h.{}";
  names.final_norm = "transformer.ln_f";
  names.attention_norm = "ln_1";
  names.mlp_norm = "ln_2";
  names.fused_query_key_value = "attn.c_attn";
  names.attention_output = "attn.c_proj";
  names.gate = "";
  names.up = "mlp.c_fc";
  names.down = "mlp.c_proj";
  return names;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::DecoderSpec spec;
  spec.names = names();
  spec.vocab_size = read.size("vocab_size");
  spec.hidden_size = read.size("n_embd");
  spec.intermediate_size = read.size("n_inner", 4 * spec.hidden_size);
  spec.num_layers = read.size("n_layer");
  spec.num_attention_heads = read.size("n_head");
  read.require(spec.hidden_size % spec.num_attention_heads == 0, "n_head", "a divisor of n_embd");
  spec.num_key_value_heads = spec.num_attention_heads;
  spec.head_dim = spec.hidden_size / spec.num_attention_heads;
  spec.max_positions = read.size("n_positions", 1024);
  spec.norm = {nn::NormKind::kLayer, read.number("layer_norm_epsilon", 1e-5), true};
  spec.query_key_value_bias = true;
  spec.attention_output_bias = true;
  spec.mlp_bias = true;
  spec.transposed_linears = true;
  spec.activation = ops::activation_from_name(read.text("activation_function", "gelu_new"));
  if (!read.flag("scale_attn_weights", true)) spec.attention_scale = 1.0;
  if (read.flag("scale_attn_by_inverse_layer_idx", false)) {
    for (std::int64_t layer = 0; layer < spec.num_layers; ++layer) {
      nn::LayerSpec own;
      own.attention_scale = 1.0 / static_cast<double>(layer + 1);
      spec.layers.push_back(own);
    }
  }
  spec.tie_word_embeddings = read.flag("tie_word_embeddings", true);
  spec.initializer_range = read.number("initializer_range", 0.02);
  spec.ignored_on_disk = {"transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"};
  return spec;
}

class Gpt2Provider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    const ConfigReader read(config);
    if (read.flag("add_cross_attention", false)) return "add_cross_attention is not supported";
    return {};
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Gpt2Provider>("gpt2", "GPT-2 decoders")
      .serves("architectures", {"GPT2LMHeadModel"})
      .serves("model_types", {"gpt2"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}))
      .property("token_classification_head", "classifier");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.gpt2", "0.1.0", espalier::register_components)
