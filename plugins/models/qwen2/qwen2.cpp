// Qwen2 and Qwen2.5: a Llama with biases on q, k and v, and a sliding window in the upper layers
// where the config turns it on. Yang et al. 2024, "Qwen2 Technical Report".
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
  spec.query_key_value_bias = true;
  if (read.flag("use_sliding_window", false)) {
    const auto first = static_cast<std::int64_t>(read.number("max_window_layers", 28));
    spec.sliding_windows = nn::sliding_windows_from_config(config, spec.num_layers, first);
  }
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
      .serves("model_types", {"qwen2"});
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.qwen2", "0.1.0", espalier::register_components)
