// gpt-oss: attention with a learned sink in every head, sliding and full layers taking turns, and
// mixtures of experts with biases and a clamped SwiGLU. OpenAI 2025, "gpt-oss-120b & gpt-oss-20b
// Model Card".
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

/// What a config without any rotary scaling means.
nn::RotarySpec default_rotary(nn::RotarySpec spec) {
  spec.kind = nn::RotarySpec::Kind::kYarn;
  spec.factor = 32.0;
  spec.beta_fast = 32.0;
  spec.beta_slow = 1.0;
  spec.truncate = false;
  spec.original_max_position_embeddings = 4096;
  return spec;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 8;
  defaults.head_dim = 64;
  defaults.max_position_embeddings = 131072;
  defaults.norm_eps = 1e-5;
  defaults.rotary.theta = 150000.0;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  if (!read.has("rope_parameters") && !read.has("rope_scaling"))
    spec.rotary = {default_rotary(spec.rotary.at(0))};
  spec.query_key_value_bias = read.flag("attention_bias", true);
  spec.attention_output_bias = spec.query_key_value_bias;
  spec.attention_sinks = true;
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers, [](std::int64_t layer) { return layer % 2 == 0; });
  nn::set_sliding_windows(spec, config, slides, nn::sliding_window_from_config(config, 128));
  return spec;
}

class GptOssProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override { return nn::quantised_reason(config); }
  std::unique_ptr<Model> build(const Value& config) const override {
    const ConfigReader read(config);
    nn::DecoderSpec spec = decoder_spec(config);
    nn::MoeSpec moe = nn::moe_spec_from_config(config, {128, 4});
    moe.router.kind = nn::RouterSpec::Kind::kTopSoftmax;
    moe.router.bias = true;
    moe.intermediate_size = spec.intermediate_size;
    moe.bias = true;
    moe.fused_on_disk = true;
    moe.clamped = {read.number("swiglu_alpha", 1.702), read.number("swiglu_limit", 7.0)};
    moe.names.router = "mlp.router";
    spec.active_intermediate_size = moe.active_intermediate_size();
    return std::make_unique<nn::DecoderModel>(std::move(spec), nn::parts_with_experts(moe));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, GptOssProvider>("gpt_oss", "gpt-oss mixtures of experts")
      .serves("architectures", {"GptOssForCausalLM"})
      .serves("model_types", {"gpt_oss"})
      .property("capabilities",
                decoder_capabilities({capability::kAttentionChoice, capability::kExperts}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.gpt_oss", "0.1.0", espalier::register_components)
