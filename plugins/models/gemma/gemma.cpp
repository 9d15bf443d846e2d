// Gemma: a Llama with norms that store w - 1, embeddings scaled by sqrt(hidden_size), a GELU gate
// and tied embeddings. Gemma Team 2024, "Gemma: Open Models Based on Gemini Research and
// Technology".
#include <cmath>

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
  defaults.num_key_value_heads = 16;
  defaults.head_dim = 256;
  defaults.max_position_embeddings = 8192;
  defaults.activation = "gelu_pytorch_tanh";
  defaults.tie_word_embeddings = true;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  nn::read_attention_bias(spec, config);
  // The first files say "gelu" and mean its tanh approximation.
  if (spec.activation == ops::Activation::kGelu) spec.activation = ops::Activation::kGeluTanh;
  spec.norm.weight_offset = 1.0;
  spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  return spec;
}

class GemmaProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    return ConfigReader(config).flag("use_bidirectional_attention", false)
               ? "use_bidirectional_attention is not supported: decoders here are causal"
               : "";
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, GemmaProvider>("gemma", "Gemma decoders")
      .serves("architectures", {"GemmaForCausalLM"})
      .serves("model_types", {"gemma"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.gemma", "0.1.0", espalier::register_components)
