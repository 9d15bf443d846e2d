// Seed-OSS: a Llama with biases on q, k and v. ByteDance Seed 2025, "Seed-OSS Open-Source Models".
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
  defaults.num_key_value_heads = 8;
  defaults.head_dim = 128;
  defaults.max_position_embeddings = 524288;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.query_key_value_bias = read.flag("attention_bias", true);
  spec.attention_output_bias = read.flag("attention_out_bias", false);
  spec.mlp_bias = read.flag("mlp_bias", false);
  return spec;
}

class SeedOssProvider final : public ModelProvider {
 public:
  std::string accepts(const Value&) const override { return {}; }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, SeedOssProvider>("seed_oss", "Seed-OSS decoders")
      .serves("architectures", {"SeedOssForCausalLM"})
      .serves("model_types", {"seed_oss"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.seed_oss", "0.1.0", espalier::register_components)
