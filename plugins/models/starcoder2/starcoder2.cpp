// StarCoder2: LayerNorm, biases, an MLP without a gate, a sliding window in all layers. Lozhkov et
// al. 2024, "StarCoder 2 and The Stack v2".
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
  defaults.num_key_value_heads = 2;
  defaults.max_position_embeddings = 4096;
  defaults.norm_eps_key = "norm_epsilon";
  defaults.norm_eps = 1e-5;
  defaults.activation = "gelu_pytorch_tanh";
  defaults.tie_word_embeddings = true;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.names.gate = "";
  spec.names.up = "mlp.c_fc";
  spec.names.down = "mlp.c_proj";
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps, /*bias=*/true};
  const bool bias = read.flag("use_bias", true);
  spec.query_key_value_bias = bias;
  spec.attention_output_bias = bias;
  spec.mlp_bias = bias;
  const std::optional<std::int64_t> window = nn::sliding_window_from_config(config);
  const std::vector<bool> slides(static_cast<std::size_t>(spec.num_layers), window.has_value());
  nn::set_sliding_windows(spec, config, slides, window);
  return spec;
}

class Starcoder2Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Starcoder2Provider>("starcoder2", "StarCoder2 decoders")
      .serves("architectures", {"Starcoder2ForCausalLM"})
      .serves("model_types", {"starcoder2"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.starcoder2", "0.1.0", espalier::register_components)
