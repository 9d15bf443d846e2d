// Granite: a Llama with factors on the embeddings, the attention scores, the residual stream and
// the logits. Granite Team 2024, "Granite 3.0 Language Models".
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
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config);
  nn::read_attention_bias(spec, config);
  spec.mlp_bias = read.flag("mlp_bias", false);
  spec.embedding_scale = read.number("embedding_multiplier", 1.0);
  spec.scale_given_embeddings = true;
  spec.attention_scale = read.number("attention_multiplier", 1.0);
  spec.residual_scale = read.number("residual_multiplier", 1.0);
  spec.logit_scale = 1.0 / read.positive_number("logits_scaling", 1.0);
  return spec;
}

class GraniteProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, GraniteProvider>("granite", "Granite decoders")
      .serves("architectures", {"GraniteForCausalLM"})
      .serves("model_types", {"granite"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.granite", "0.1.0", espalier::register_components)
