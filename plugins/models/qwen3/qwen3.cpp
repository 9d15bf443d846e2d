// Qwen3: a Llama with a norm on every query and key head, and a sliding window in the upper layers
// where the config turns it on. Yang et al. 2025, "Qwen3 Technical Report".
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
  defaults.head_dim = 128;
  defaults.max_position_embeddings = 32768;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.query_key_norm = {nn::QueryKeyNormSpec::Span::kHead, spec.norm};
  std::optional<std::int64_t> window;
  if (read.flag("use_sliding_window", false)) window = nn::sliding_window_from_config(config, 4096);
  const double first = read.number("max_window_layers", 28);
  const auto slides = nn::sliding_layers_from_config(
      config, spec.num_layers,
      [&](std::int64_t layer) { return window && static_cast<double>(layer) >= first; });
  nn::set_sliding_windows(spec, config, slides, window);
  return spec;
}

class Qwen3Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Qwen3Provider>("qwen3", "Qwen3 decoders")
      .serves("architectures", {"Qwen3ForCausalLM"})
      .serves("model_types", {"qwen3"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.qwen3", "0.1.0", espalier::register_components)
