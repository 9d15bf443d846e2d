// Qwen2 and Qwen2.5: a Llama with biases on q, k and v, and a sliding window in the upper layers
// where the config turns it on. Yang et al. 2024, "Qwen2 Technical Report".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 32;
  defaults.max_position_embeddings = 32768;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.query_key_value_bias = true;
  std::optional<std::int64_t> window;
  if (read.flag("use_sliding_window", false)) window = nn::sliding_window_from_config(config, 4096);
  const double first = read.number("max_window_layers", 28);
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers,
      [&](std::int64_t layer) { return window && static_cast<double>(layer) >= first; });
  nn::set_sliding_windows(spec, config, slides, window);
  return spec;
}

class Qwen2Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Qwen2Provider>("qwen2", "Qwen2 and Qwen2.5 decoders")
      .serves("architectures", {"Qwen2ForCausalLM"})
      .serves("model_types", {"qwen2"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.qwen2", "0.1.0", espalier::register_components)
