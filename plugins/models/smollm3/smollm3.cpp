// SmolLM3: a Llama in which some layers have no positions (NoPE). Bakouch et al. 2025, "SmolLM3".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// `no_rope_layers`, where 1 is a layer with rotary positions; without it every
/// `no_rope_layer_interval`-th layer has none.
std::vector<bool> rotary_layers(const ConfigReader& read, std::int64_t num_layers) {
  std::vector<bool> turned;
  if (const Value* list = read.find("no_rope_layers")) {
    read.require(
        list->is_array() && static_cast<std::int64_t>(list->as_array().size()) >= num_layers,
        "no_rope_layers", "0 or 1 for each layer");
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      const Value& entry = list->as_array()[static_cast<std::size_t>(layer)];
      turned.push_back(entry.is_bool() ? entry.as_bool() : entry.as_int() != 0);
    }
    return turned;
  }
  const std::int64_t interval = read.size("no_rope_layer_interval", 4);
  for (std::int64_t layer = 0; layer < num_layers; ++layer)
    turned.push_back((layer + 1) % interval != 0);
  return turned;
}

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 4;
  defaults.max_position_embeddings = 32768;
  defaults.tie_word_embeddings = true;
  defaults.rotary.theta = 2000000.0;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.mlp_bias = read.flag("mlp_bias", false);

  const std::vector<bool> turned = rotary_layers(read, spec.num_layers);
  spec.layers.resize(turned.size());
  for (std::size_t layer = 0; layer < turned.size(); ++layer) {
    if (turned[layer]) spec.layers[layer].rotary = 0;
  }
  const std::optional<std::int64_t> window = nn::sliding_window_from_config(config);
  const bool slides = read.flag("use_sliding_window", false) && window;
  nn::set_sliding_windows(
      spec, config,
      nn::sliding_layers_from_config(
          config, spec.num_layers,
          [&](std::int64_t layer) { return slides && !turned[static_cast<std::size_t>(layer)]; }),
      window);
  return spec;
}

class SmolLm3Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, SmolLm3Provider>("smollm3", "SmolLM3 decoders")
      .serves("architectures", {"SmolLM3ForCausalLM"})
      .serves("model_types", {"smollm3"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.smollm3", "0.1.0", espalier::register_components)
