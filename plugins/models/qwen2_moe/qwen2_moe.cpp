// Qwen2-MoE: a Qwen2 in which some layers have a mixture of experts beside an MLP that sees every
// token, the latter weighted by a gate. Yang et al. 2024, "Qwen2 Technical Report".
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
  defaults.num_key_value_heads = 16;
  defaults.max_position_embeddings = 32768;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.query_key_value_bias = read.flag("qkv_bias", true);
  std::optional<std::int64_t> window;
  if (read.flag("use_sliding_window", false)) window = nn::sliding_window_from_config(config, 4096);
  const double last = read.number("max_window_layers", 28);
  const auto slides =
      nn::sliding_layers_from_config(config, spec.num_layers, [&](std::int64_t layer) {
        return window && layer % 2 == 0 && static_cast<double>(layer) < last;
      });
  nn::set_sliding_windows(spec, config, slides, window);
  return spec;
}

class Qwen2MoeProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override { return nn::quantised_reason(config); }
  std::unique_ptr<Model> build(const Value& config) const override {
    const ConfigReader read(config);
    nn::DecoderSpec spec = decoder_spec(config);
    nn::MoeSpec moe = nn::moe_spec_from_config(config, {60, 4});
    moe.layers = nn::sparse_layers_from_config(config, spec.num_layers);
    moe.router.normalised = read.flag("norm_topk_prob", false);
    moe.intermediate_size = read.size("moe_intermediate_size", 1408);
    moe.shared_intermediate_size = read.size("shared_expert_intermediate_size", 5632);
    moe.shared_gate = true;
    moe.names.shared = "mlp.shared_expert";
    spec.active_intermediate_size = moe.active_intermediate_size();
    return std::make_unique<nn::DecoderModel>(std::move(spec), nn::parts_with_experts(moe));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Qwen2MoeProvider>("qwen2_moe", "Qwen2 mixtures of experts")
      .serves("architectures", {"Qwen2MoeForCausalLM"})
      .serves("model_types", {"qwen2_moe"})
      .property("capabilities",
                decoder_capabilities({capability::kAttentionChoice, capability::kExperts}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.qwen2_moe", "0.1.0", espalier::register_components)
