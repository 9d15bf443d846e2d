// Nemotron-H: a pattern of layers, each either a Mamba-2 state space, attention without positions,
// an MLP with squared ReLU, or a mixture of such MLPs. NVIDIA 2025, "Nemotron-H: A Family of
// Accurate and Efficient Hybrid Mamba-Transformer Models".
#include <map>

#include "espalier/io/config_reader.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/nn/mixer_block.h"
#include "espalier/nn/mlp.h"
#include "espalier/nn/moe.h"
#include "espalier/nn/moe_config.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/plugin.h"
#include "mamba2_mixer.h"

namespace espalier {
namespace {

enum class LayerKind { kMamba, kAttention, kMlp, kExperts };

/// One kind a layer: from `layers_block_type` under any of its names, or the older pattern of
/// letters.
std::vector<LayerKind> layer_kinds(const Value& config) {
  static const std::map<std::string, LayerKind> kNames = {{"mamba", LayerKind::kMamba},
                                                          {"linear_attention", LayerKind::kMamba},
                                                          {"attention", LayerKind::kAttention},
                                                          {"full_attention", LayerKind::kAttention},
                                                          {"mlp", LayerKind::kMlp},
                                                          {"moe", LayerKind::kExperts},
                                                          {"M", LayerKind::kMamba},
                                                          {"*", LayerKind::kAttention},
                                                          {"-", LayerKind::kMlp},
                                                          {"E", LayerKind::kExperts}};
  const ConfigReader read(config);
  std::string key = "hybrid_override_pattern";
  for (const char* list : {"layer_types", "layers_block_type"})
    if (read.has(list)) key = list;
  const Value* value = read.find(key);
  const std::string expected =
      key == "hybrid_override_pattern"
          ? "letters M (Mamba-2), * (attention), - (MLP) and E (experts), one a layer"
          : "a list of mamba, attention, mlp and moe, one a layer";
  std::vector<std::string> names;
  if (value != nullptr && value->is_string()) {
    for (const char letter : value->as_string()) names.emplace_back(1, letter);
  } else if (value != nullptr && value->is_array()) {
    for (const Value& name : value->as_array())
      names.push_back(name.is_string() ? name.as_string() : std::string());
  }
  read.require(!names.empty(), key, expected);
  std::vector<LayerKind> kinds;
  for (const std::string& name : names) {
    read.require(kNames.contains(name), key, expected);
    kinds.push_back(kNames.at(name));
  }
  return kinds;
}

nn::DecoderSpec decoder_spec(const Value& config, std::int64_t num_layers) {
  const ConfigReader read(config);
  nn::DecoderSpec spec;
  nn::DecoderNames& names = spec.names;
  names.embedding = "backbone.embeddings";
  names.layer = "backbone.layers.{}";
  names.attention_norm = "norm";
  names.final_norm = "backbone.norm_f";
  names.query = "mixer.q_proj";
  names.key = "mixer.k_proj";
  names.value = "mixer.v_proj";
  names.attention_output = "mixer.o_proj";
  names.gate = "";
  names.up = "mixer.up_proj";
  names.down = "mixer.down_proj";
  spec.vocab_size = read.size("vocab_size", 131072);
  spec.hidden_size = read.size("hidden_size", 4096);
  spec.intermediate_size = read.size("intermediate_size", 21504);
  spec.num_layers = num_layers;
  spec.num_attention_heads = read.size("num_attention_heads", 32);
  spec.num_key_value_heads = read.is_null("num_key_value_heads")
                                 ? spec.num_attention_heads
                                 : read.size("num_key_value_heads", 8);
  read.require(spec.num_attention_heads % spec.num_key_value_heads == 0, "num_key_value_heads",
               "a divisor of num_attention_heads");
  spec.head_dim = read.size("head_dim", 128);
  spec.max_positions = read.size("max_position_embeddings", 4096);
  spec.norm.eps = read.number("layer_norm_epsilon", 1e-5);
  spec.activation = ops::activation_from_name(read.text("mlp_hidden_act", "relu2"));
  spec.mlp_bias = read.flag("mlp_bias", false);
  spec.tie_word_embeddings = false;  // in transformers too, whatever `tie_word_embeddings` says
  spec.initializer_range = read.number("initializer_range", 0.02);
  spec.ignored_on_disk = {"mtp.*"};
  spec.recurrent = true;
  return spec;
}

nemotron_h::Mamba2MixerSpec mamba_spec(const Value& config) {
  const ConfigReader read(config);
  nemotron_h::Mamba2MixerSpec spec;
  spec.mamba_num_heads = read.size("mamba_num_heads", 128);
  spec.mamba_head_dim = read.size("mamba_head_dim", 64);
  spec.n_groups = read.size("n_groups", 8);
  read.require(spec.mamba_num_heads % spec.n_groups == 0, "n_groups",
               "a divisor of mamba_num_heads");
  spec.ssm_state_size = read.size("ssm_state_size", 128);
  spec.conv_kernel = read.size("conv_kernel", 4);
  spec.activation = ops::activation_from_name(read.text("mamba_hidden_act", "silu"));
  spec.use_bias = read.flag("use_bias", false);
  spec.use_conv_bias = read.flag("use_conv_bias", true);
  spec.time_step_minimum = read.positive_number("time_step_min", 0.001);
  spec.time_step_maximum = read.positive_number("time_step_max", 0.1);
  spec.time_step_floor = read.positive_number("time_step_floor", 1e-4);
  return spec;
}

nn::MoeSpec moe_spec(const Value& config) {
  const ConfigReader read(config);
  nn::MoeSpec moe = nn::moe_spec_from_config(config, {8, 2});
  moe.auxiliary_weight = 0;  // the correction bias balances the load
  nn::RouterSpec& router = moe.router;
  router.kind = nn::RouterSpec::Kind::kSigmoid;
  router.correction_bias = true;
  router.normalised = read.flag("norm_topk_prob", true);
  router.scaling_factor = read.number("routed_scaling_factor", 1.0);
  router.n_group = read.size("n_group", 1);
  router.topk_group = read.size("topk_group", 1);
  nn::check_groups(router, config);
  moe.intermediate_size = read.size("moe_intermediate_size", 7688);
  moe.shared_intermediate_size = read.size("moe_shared_expert_intermediate_size", 7688);
  if (read.has("moe_latent_size")) moe.latent_size = read.size("moe_latent_size");
  moe.names.router = "mixer.gate";
  moe.names.experts = "mixer.experts";
  moe.names.gate = "";
  moe.names.shared = "mixer.shared_experts";
  moe.names.latent_in = "mixer.fc1_latent_proj";
  moe.names.latent_out = "mixer.fc2_latent_proj";
  return moe;
}

nn::DecoderParts decoder_parts(const Value& config, const std::vector<LayerKind>& kinds) {
  const bool has_experts = std::count(kinds.begin(), kinds.end(), LayerKind::kExperts) > 0;
  const nn::MoeSpec moe = has_experts ? moe_spec(config) : nn::MoeSpec();
  nn::DecoderParts parts;
  if (has_experts) parts = nn::parts_with_experts(moe);
  const auto make_mixer = [kinds, moe, mamba = mamba_spec(config)](
                              const nn::ModuleScope& scope, const nn::DecoderSpec& spec,
                              std::int64_t layer) -> std::unique_ptr<nn::Mixer> {
    switch (kinds[static_cast<std::size_t>(layer)]) {
      case LayerKind::kMamba:
        return std::make_unique<nemotron_h::Mamba2Mixer>(scope, spec, mamba, layer);
      case LayerKind::kAttention: return std::make_unique<nn::Attention>(scope, spec, layer);
      case LayerKind::kMlp: return std::make_unique<nn::Mlp>(scope, spec);
      case LayerKind::kExperts: return std::make_unique<nn::MoeMlp>(scope, spec, moe);
    }
    return nullptr;
  };
  parts.block = [make_mixer](ModelParts& model, const nn::DecoderSpec& spec,
                             std::int64_t layer) -> std::unique_ptr<Block> {
    return std::make_unique<nn::MixerBlock>(model, spec, layer, make_mixer,
                                            /*residual_in_float32=*/false);
  };
  return parts;
}

class NemotronHProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override { return nn::quantised_reason(config); }
  std::unique_ptr<Model> build(const Value& config) const override {
    const std::vector<LayerKind> kinds = layer_kinds(config);
    return std::make_unique<nn::DecoderModel>(
        decoder_spec(config, static_cast<std::int64_t>(kinds.size())),
        decoder_parts(config, kinds));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, NemotronHProvider>("nemotron_h", "Nemotron-H hybrids")
      .serves("architectures", {"NemotronHForCausalLM"})
      .serves("model_types", {"nemotron_h"})
      .property("capabilities",
                decoder_capabilities({capability::kAttentionChoice, capability::kExperts}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.nemotron_h", "0.1.0", espalier::register_components)
