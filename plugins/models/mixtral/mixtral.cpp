// Mixtral: a Mistral whose MLPs are mixtures of experts; each token goes to the k experts with the
// largest softmax, weighted so that they sum to 1. Jiang et al. 2024, "Mixtral of Experts".
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

std::unique_ptr<Model> build_model(const Value& config) {
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 8;
  defaults.max_position_embeddings = 131072;
  defaults.norm_eps = 1e-5;
  defaults.rotary.theta = 1e6;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  const std::optional<std::int64_t> window = nn::sliding_window_from_config(config);
  if (window) {
    const std::vector<bool> all(static_cast<std::size_t>(spec.num_layers), true);
    nn::set_sliding_windows(spec, config, all, window);
  }

  nn::MoeSpec moe = nn::moe_spec_from_config(config, {8, 2});
  moe.router.normalised = true;
  moe.intermediate_size = spec.intermediate_size;
  moe.names.router = "block_sparse_moe.gate";
  moe.names.experts = "block_sparse_moe.experts";
  moe.names.gate = "w1";
  moe.names.up = "w3";
  moe.names.down = "w2";
  spec.active_intermediate_size = moe.active_intermediate_size();
  return std::make_unique<nn::DecoderModel>(std::move(spec), nn::parts_with_experts(moe));
}

class MixtralProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    if (ConfigReader(config).number("router_jitter_noise", 0.0) != 0)
      return "router_jitter_noise is not supported";
    return nn::quantised_reason(config);
  }
  std::unique_ptr<Model> build(const Value& config) const override { return build_model(config); }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, MixtralProvider>("mixtral", "Mixtral mixtures of experts")
      .serves("architectures", {"MixtralForCausalLM"})
      .serves("model_types", {"mixtral"})
      .property("capabilities",
                decoder_capabilities({capability::kAttentionChoice, capability::kExperts}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.mixtral", "0.1.0", espalier::register_components)
