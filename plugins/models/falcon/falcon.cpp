// Falcon: LayerNorm, q/k/v in one projection, attention and MLP side by side (not in the RefinedWeb
// models with ALiBi). The old architecture has one key head for all queries or one for each, the
// new one some for groups of queries and up to two norms. Almazrouei et al. 2023, "The Falcon
// Series of Open Language Models".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct Architecture {
  bool grouped = false;  ///< `new_decoder_architecture`
  bool multi_query = true;
  bool parallel = true;
  bool alibi = false;
  std::int64_t norms = 1;  ///< in a layer with a parallel MLP
};

Architecture architecture(const ConfigReader& read) {
  Architecture result;
  result.grouped = read.flag("new_decoder_architecture", false);
  result.multi_query = read.flag("multi_query", true);
  result.parallel = read.flag("parallel_attn", true);
  result.alibi = read.flag("alibi", false);
  result.norms = read.size("num_ln_in_parallel_attn", result.grouped ? 2 : 1);
  return result;
}

/// Empty, or what transformers can't run either.
std::string refuse(const Architecture& kind) {
  if (kind.grouped && !kind.parallel)
    return "new_decoder_architecture with parallel_attn = false is not defined";
  if (kind.norms > 2) return "num_ln_in_parallel_attn is 1 or 2";
  if (kind.norms == 2 && !kind.grouped)
    return "num_ln_in_parallel_attn = 2 needs new_decoder_architecture";
  return {};
}

nn::DecoderNames names(const Architecture& kind) {
  nn::DecoderNames names;
  names.embedding = "transformer.word_embeddings";
  names.layer = "transformer.h.{}";
  names.final_norm = "transformer.ln_f";
  if (kind.grouped && kind.norms == 2) {
    names.attention_norm = "ln_attn";
    names.mlp_norm = "ln_mlp";
  } else if (kind.parallel) {
    names.mlp_norm = "";
  }
  names.fused_query_key_value = "self_attention.query_key_value";
  names.attention_output = "self_attention.dense";
  names.gate = "";
  names.up = "mlp.dense_h_to_4h";
  names.down = "mlp.dense_4h_to_h";
  return names;
}

/// The config under the names of other families.
Value renamed(const Value& config, const Architecture& kind) {
  const ConfigReader read(config);
  Value other = config;
  Table& table = other.as_table();
  if (read.has("n_embed")) table.set("hidden_size", *read.find("n_embed"));
  const std::int64_t heads = read.size("num_attention_heads");
  const std::int64_t given = read.size("num_kv_heads", heads);
  table.set("num_key_value_heads", kind.grouped ? given : kind.multi_query ? 1 : heads);
  table.erase("head_dim");
  const std::int64_t hidden = ConfigReader(other).size("hidden_size");
  table.set("intermediate_size", read.size("ffn_hidden_size", 4 * hidden));
  return other;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  const Architecture kind = architecture(read);
  nn::ConfigDefaults defaults;
  defaults.norm_eps_key = "layer_norm_epsilon";
  defaults.norm_eps = 1e-5;
  defaults.activation_key = "activation";
  defaults.activation = "gelu";
  defaults.tie_word_embeddings = true;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(renamed(config, kind), defaults);
  spec.names = names(kind);
  spec.padding_id = std::nullopt;
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps, /*bias=*/true};
  if (kind.parallel) spec.residual = nn::ResidualPlan::kParallel;
  spec.fused_layout = nn::FusedLayout::kGroups;
  const bool bias = read.flag("bias", false);
  spec.query_key_value_bias = bias;
  spec.attention_output_bias = bias;
  spec.mlp_bias = bias;
  spec.alibi = kind.alibi;
  if (kind.alibi) spec.rotary.clear();
  spec.ignored_on_disk = {"transformer.h.*.self_attention.rotary_emb.inv_freq"};
  return spec;
}

class FalconProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    return refuse(architecture(ConfigReader(config)));
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, FalconProvider>("falcon", "Falcon decoders")
      .serves("architectures", {"FalconForCausalLM"})
      .serves("model_types", {"falcon"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}))
      .property("token_classification_head", "classifier");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.falcon", "0.1.0", espalier::register_components)
