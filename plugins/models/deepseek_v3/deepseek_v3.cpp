// DeepSeek-V3: latent attention, dense MLPs in the first layers and then mixtures of experts chosen
// by groups, with a correction bias for the choice and MLPs that see every token. DeepSeek-AI 2024,
// "DeepSeek-V3 Technical Report".
#include <cmath>

#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/nn/moe.h"
#include "espalier/nn/moe_config.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/plugin.h"
#include "latent_attention.h"

namespace espalier {
namespace {

/// 0.1 m log(factor) + 1: by how much YaRN sharpens attention over stretched positions.
double yarn_sharpening(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

deepseek_v3::LatentAttentionSpec attention_spec(const Value& config) {
  const ConfigReader read(config);
  deepseek_v3::LatentAttentionSpec spec;
  // A null says that queries are not compressed, a missing key is DeepSeek-V3's own rank.
  if (!read.is_null("q_lora_rank")) spec.q_lora_rank = read.size("q_lora_rank", 1536);
  spec.kv_lora_rank = read.size("kv_lora_rank", 512);
  spec.qk_nope_head_dim = read.size("qk_nope_head_dim", 128);
  spec.qk_rope_head_dim = read.size("qk_rope_head_dim", 64);
  spec.v_head_dim = read.size("v_head_dim", 128);
  spec.bias = read.flag("attention_bias", false);
  return spec;
}

nn::DecoderSpec decoder_spec(const Value& config, const deepseek_v3::LatentAttentionSpec& latent) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.max_position_embeddings = 4096;
  // `head_dim` of the config is that of the rotated part, whatever it says.
  defaults.head_dim = latent.qk_rope_head_dim;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::RotarySpec rotary = nn::rotary_spec_from_config(config, latent.qk_rope_head_dim);
  rotary.interleaved = read.flag("rope_interleave", true);
  const std::int64_t head_dim = latent.qk_nope_head_dim + latent.qk_rope_head_dim;
  double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  if (rotary.kind != nn::RotarySpec::Kind::kDefault && rotary.mscale_all_dim != 0) {
    const double sharpening = yarn_sharpening(rotary.factor, rotary.mscale_all_dim);
    scale *= sharpening * sharpening;
  }
  spec.attention_scale = scale;
  spec.rotary = {rotary};
  spec.num_key_value_heads = spec.num_attention_heads;
  spec.head_dim = head_dim;
  // Layers that predict further tokens come after the model's own.
  const auto further = static_cast<std::int64_t>(read.number("num_nextn_predict_layers", 1));
  for (std::int64_t i = 0; i < further; ++i) {
    spec.ignored_on_disk.push_back("model.layers." + std::to_string(spec.num_layers + i) + ".*");
  }
  return spec;
}

nn::MoeSpec moe_spec(const Value& config, nn::DecoderSpec& spec) {
  const ConfigReader read(config);
  nn::MoeSpec moe = nn::moe_spec_from_config(config, {256, 8});
  moe.auxiliary_weight = 0;  // the correction bias balances the load
  nn::RouterSpec& router = moe.router;
  router.kind = nn::RouterSpec::Kind::kSigmoid;
  router.correction_bias = true;
  router.normalised = read.flag("norm_topk_prob", true);
  router.scaling_factor = read.number("routed_scaling_factor", 2.5);
  router.n_group = read.size("n_group", 8);
  router.topk_group = read.size("topk_group", 4);
  nn::check_groups(router, config);
  const double dense = read.number("first_k_dense_replace", 3);
  for (std::int64_t layer = 0; layer < spec.num_layers; ++layer)
    moe.layers.push_back(static_cast<double>(layer) >= dense);
  moe.intermediate_size = read.size("moe_intermediate_size", 2048);
  const double shared = read.number("n_shared_experts", 1);
  moe.shared_intermediate_size = moe.intermediate_size * static_cast<std::int64_t>(shared);
  // Without shared experts transformers still stores their tensors, of no elements.
  if (shared == 0) spec.ignored_on_disk.emplace_back("model.layers.*.mlp.shared_experts.*");
  spec.active_intermediate_size = moe.active_intermediate_size();
  return moe;
}

class DeepseekV3Provider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override { return nn::quantised_reason(config); }
  std::unique_ptr<Model> build(const Value& config) const override {
    const deepseek_v3::LatentAttentionSpec latent = attention_spec(config);
    nn::DecoderSpec spec = decoder_spec(config, latent);
    nn::DecoderParts parts = nn::parts_with_experts(moe_spec(config, spec));
    parts.attention = [latent](const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
                               std::int64_t layer) -> std::unique_ptr<nn::Mixer> {
      return std::make_unique<deepseek_v3::LatentAttention>(scope, decoder, latent, layer);
    };
    return std::make_unique<nn::DecoderModel>(std::move(spec), std::move(parts));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, DeepseekV3Provider>("deepseek_v3", "DeepSeek-V3 and R1")
      .serves("architectures", {"DeepseekV3ForCausalLM"})
      .serves("model_types", {"deepseek_v3"})
      .property("capabilities",
                decoder_capabilities({capability::kAttentionChoice, capability::kExperts}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.deepseek_v3", "0.1.0", espalier::register_components)
