// ERNIE 4.5, the dense sizes: a Llama with rotary positions on neighbouring channels and tied
// embeddings. Baidu ERNIE Team 2025, "ERNIE 4.5 Technical Report".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 2;
  defaults.head_dim = 128;
  defaults.max_position_embeddings = 131072;
  defaults.norm_eps = 1e-5;
  defaults.tie_word_embeddings = true;
  defaults.rotary.theta = 500000.0;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.rotary[0].interleaved = true;
  const bool bias = ConfigReader(config).flag("use_bias", false);
  spec.query_key_value_bias = bias;
  spec.attention_output_bias = bias;
  spec.mlp_bias = bias;
  return spec;
}

class Ernie45Provider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Ernie45Provider>("ernie4_5", "ERNIE 4.5 dense decoders")
      .serves("architectures", {"Ernie4_5ForCausalLM"})
      .serves("model_types", {"ernie4_5"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.ernie4_5", "0.1.0", espalier::register_components)
