// Llama and Mistral: RMSNorm, rotary positions with every published scaling, grouped-query
// attention (with a sliding window in Mistral), SwiGLU. Touvron et al. 2023, "LLaMA"; Jiang et al.
// 2023, "Mistral 7B".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec decoder_spec(const Value& config) {
  const ConfigReader read(config);
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config);
  spec.query_key_value_bias = read.flag("attention_bias", false);
  spec.attention_output_bias = spec.query_key_value_bias;
  spec.mlp_bias = read.flag("mlp_bias", false);
  if (read.text("model_type", "llama") == "mistral") {
    spec.sliding_windows = nn::sliding_windows_from_config(config, spec.num_layers, 0);
  }
  return spec;
}

class LlamaProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    const std::string kind = ConfigReader(config).text("model_type", "llama");
    return kind == "llama" || kind == "mistral"
               ? ""
               : "model_type is '" + kind + "', not llama or mistral";
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, LlamaProvider>("llama", "Llama and Mistral decoders")
      .serves("architectures", {"LlamaForCausalLM", "MistralForCausalLM"})
      .serves("model_types", {"llama", "mistral"});
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.llama", "0.1.0", espalier::register_components)
