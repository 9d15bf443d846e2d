// Llama and Mistral: RMSNorm, rotary positions with every published scaling, grouped-query
// attention (with a sliding window in Mistral), SwiGLU. Touvron et al. 2023, "LLaMA"; Jiang et al.
// 2023, "Mistral 7B".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

nn::DecoderSpec llama_spec(const Value& config) {
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config);
  nn::read_attention_bias(spec, config);
  spec.mlp_bias = ConfigReader(config).flag("mlp_bias", false);
  return spec;
}

nn::DecoderSpec mistral_spec(const Value& config) {
  nn::ConfigDefaults defaults;
  defaults.num_key_value_heads = 8;
  defaults.max_position_embeddings = 131072;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  // The window is in force in every layer, whatever `layer_types` says.
  if (const auto window = nn::sliding_window_from_config(config, 4096)) {
    const std::vector<bool> all(static_cast<std::size_t>(spec.num_layers), true);
    nn::set_sliding_windows(spec, config, all, window);
  }
  return spec;
}

std::string model_type(const Value& config) {
  return ConfigReader(config).text("model_type", "llama");
}

class LlamaProvider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    const std::string kind = model_type(config);
    return kind == "llama" || kind == "mistral"
               ? ""
               : "model_type is '" + kind + "', not llama or mistral";
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(model_type(config) == "mistral" ? mistral_spec(config)
                                                                              : llama_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, LlamaProvider>("llama", "Llama and Mistral decoders")
      .serves("architectures", {"LlamaForCausalLM", "MistralForCausalLM"})
      .serves("model_types", {"llama", "mistral"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.llama", "0.1.0", espalier::register_components)
