// Nemotron and Minitron: LayerNorm that stores w - 1, a squared ReLU without a gate, rotary
// positions on half of each head. Parmar et al. 2024, "Nemotron-4 15B Technical Report".
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
  defaults.max_position_embeddings = 4096;
  defaults.norm_eps_key = "norm_eps";
  defaults.norm_eps = 1e-5;
  defaults.activation = "relu2";
  defaults.rotary.partial = 0.5;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  spec.names.gate = "";
  spec.norm = {nn::NormKind::kLayer, spec.norm.eps, /*bias=*/true, /*weight_offset=*/1.0};
  spec.mlp_bias = ConfigReader(config).flag("mlp_bias", false);
  return spec;
}

class NemotronProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, NemotronProvider>("nemotron", "Nemotron and Minitron decoders")
      .serves("architectures", {"NemotronForCausalLM"})
      .serves("model_types", {"nemotron"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.nemotron", "0.1.0", espalier::register_components)
