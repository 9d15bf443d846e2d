// Qwen3-MoE: a Qwen3 in which some layers have a mixture of experts. Yang et al. 2025, "Qwen3
// Technical Report".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/nn/moe.h"
#include "espalier/nn/moe_config.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 4;
  defaults.max_position_embeddings = 32768;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kHead, spec.norm};
  if (read.flag("use_sliding_window", false)) {
    const std::optional<std::int64_t> window = nn::sliding_window_from_config(config, 4096);
    const std::vector<bool> slides(static_cast<std::size_t>(spec.num_layers), window.has_value());
    nn::set_sliding_windows(spec, config, slides, window);
  }
  return spec;
}

class Qwen3MoeProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override { return nn::quantised_reason(config); }
  std::unique_ptr<Model> build(const Value& config) const override {
    const ConfigReader read(config);
    nn::DecoderSpec spec = decoder_spec(config);
    nn::MoeSpec moe = nn::moe_spec_from_config(config, {128, 8});
    moe.layers = nn::sparse_layers_from_config(config, spec.num_layers);
    moe.router.normalised = read.flag("norm_topk_prob", false);
    moe.intermediate_size = read.size("moe_intermediate_size", 768);
    spec.active_intermediate_size = moe.active_intermediate_size();
    return std::make_unique<nn::DecoderModel>(std::move(spec), nn::parts_with_experts(moe));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Qwen3MoeProvider>("qwen3_moe", "Qwen3 mixtures of experts")
      .serves("architectures", {"Qwen3MoeForCausalLM"})
      .serves("model_types", {"qwen3_moe"})
      .property("capabilities",
                decoder_capabilities({capability::kAttentionChoice, capability::kExperts}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.qwen3_moe", "0.1.0", espalier::register_components)
