// Command R and Aya: LayerNorm without biases, attention and MLP side by side behind one norm,
// rotary positions on neighbouring channels, a factor on the logits, tied embeddings; Command R7B
// (cohere2) slides in three layers of four and has no positions in the fourth. Cohere 2024; Cohere
// 2025, "Command A".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec shared_spec(const Value& config, double theta) {
  nn::ConfigDefaults defaults;
  defaults.max_position_embeddings = 8192;
  defaults.norm_eps_key = "layer_norm_eps";
  defaults.norm_eps = 1e-5;
  defaults.tie_word_embeddings = true;
  defaults.rotary.theta = theta;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.names.mlp_norm = "";
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps};
  spec.residual = nn::ResidualPlan::kParallel;
  spec.rotary[0].interleaved = true;
  spec.logit_scale = ConfigReader(config).number("logit_scale", 0.0625);
  return spec;
}

nn::DecoderSpec cohere_spec(const Value& config) {
  nn::DecoderSpec spec = shared_spec(config, 500000.0);
  if (ConfigReader(config).flag("use_qk_norm", false))
    spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kEachHead, spec.norm};
  return spec;
}

nn::DecoderSpec cohere2_spec(const Value& original) {
  Value config = original;
  config.as_table().erase("head_dim");  // transformers derives it, whatever the file says
  nn::DecoderSpec spec = shared_spec(config, 10000.0);
  const std::int64_t pattern = ConfigReader(config).size("sliding_window_pattern", 4);
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers, [&](std::int64_t layer) { return (layer + 1) % pattern != 0; });
  spec.layers.resize(slides.size());
  for (std::size_t layer = 0; layer < slides.size(); ++layer) {
    if (slides[layer]) spec.layers[layer].rotary = 0;
  }
  nn::set_sliding_windows(spec, config, slides, nn::sliding_window_from_config(config, 4096));
  return spec;
}

class CohereProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(cohere_spec(config));
  }
};

class Cohere2Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(cohere2_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, CohereProvider>("cohere", "Command R and Aya decoders")
      .serves("architectures", {"CohereForCausalLM"})
      .serves("model_types", {"cohere"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
  registrar.add<ModelProvider, Cohere2Provider>("cohere2", "Command R7B and Command A decoders")
      .serves("architectures", {"Cohere2ForCausalLM"})
      .serves("model_types", {"cohere2"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.cohere", "0.1.0", espalier::register_components)
