// OLMo 2 and 3: a Llama with norms behind attention and MLP instead of before them, and norms over
// all of the queries and keys; OLMo 3 slides in three layers of four. OLMo Team 2024, "2 OLMo 2
// Furious"; 2025, "Olmo 3".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec olmo2_spec(const Value& config) {
  nn::ConfigDefaults defaults;
  defaults.norm_eps = 1e-5;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.names.attention_norm = "";
  spec.names.attention_output_norm = "post_attention_layernorm";
  spec.names.mlp_norm = "";
  spec.names.mlp_output_norm = "post_feedforward_layernorm";
  spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kAllHeads, spec.norm};
  return spec;
}

nn::DecoderSpec olmo3_spec(const Value& config) {
  constexpr double kTheta = 500000.0;
  nn::DecoderSpec spec = olmo2_spec(config);
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers, [](std::int64_t layer) { return (layer + 1) % 4 != 0; });
  // Rotary 0 is that of full attention, with the scaling and `rope_theta` of the older form; 1 that
  // of sliding layers, which take nothing from there.
  const ConfigReader read(config);
  spec.rotary = {
      nn::rotary_spec_of_layer_type(config, spec.head_dim, "full_attention",
                                    read.number("rope_theta", kTheta), read.find("rope_scaling")),
      nn::rotary_spec_of_layer_type(config, spec.head_dim, "sliding_attention", kTheta, nullptr)};
  spec.layers.resize(slides.size());
  for (std::size_t layer = 0; layer < slides.size(); ++layer)
    spec.layers[layer].rotary = slides[layer] ? 1 : 0;
  nn::set_sliding_windows(spec, config, slides, nn::sliding_window_from_config(config, 4096));
  return spec;
}

class Olmo2Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(olmo2_spec(config));
  }
};

class Olmo3Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(olmo3_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Olmo2Provider>("olmo2", "OLMo 2 decoders")
      .serves("architectures", {"Olmo2ForCausalLM"})
      .serves("model_types", {"olmo2"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
  registrar.add<ModelProvider, Olmo3Provider>("olmo3", "OLMo 3 decoders")
      .serves("architectures", {"Olmo3ForCausalLM"})
      .serves("model_types", {"olmo3"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.olmo", "0.1.0", espalier::register_components)
