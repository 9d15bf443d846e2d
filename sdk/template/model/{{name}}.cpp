// A decoder family: RMSNorm on queries and keys, GeLU gating, tied embeddings. What a DecoderSpec can
// say is said here; a family that needs more brings a Block of its own (espalier/nn/mixer.h).
#include <espalier/io/config_reader.h>
#include <espalier/nn/decoder_config.h>
#include <espalier/nn/decoder_model.h>
#include <espalier/sdk/capabilities.h>
#include <espalier/sdk/model.h>
#include <espalier/sdk/plugin.h>

namespace {

class {{Name}}Provider final : public espalier::ModelProvider {
 public:
  std::string accepts(const espalier::Value& config) const override {
    const std::string kind = espalier::ConfigReader(config).text("model_type", "");
    return kind == "{{name}}" ? "" : "model_type is '" + kind + "', not {{name}}";
  }

  std::unique_ptr<espalier::Model> build(const espalier::Value& config) const override {
    espalier::nn::ConfigDefaults defaults;  // what transformers takes where a key is missing
    defaults.activation = "gelu_pytorch_tanh";
    defaults.tie_word_embeddings = true;
    espalier::nn::DecoderSpec spec = espalier::nn::decoder_spec_from_config(config, defaults);
    spec.query_key_norm = {espalier::nn::QueryKeyNormSpec::Span::kHead, spec.norm};
    // Names of the checkpoint are those of Llama unless spec.names says otherwise.
    return std::make_unique<espalier::nn::DecoderModel>(std::move(spec));
  }
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::ModelProvider, {{Name}}Provider>("{{name}}", "{{Name}} decoders")
      .serves("architectures", {"{{Name}}ForCausalLM"})
      .serves("model_types", {"{{name}}"})
      .property("capabilities",
                espalier::decoder_capabilities({espalier::capability::kAttentionChoice}));
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
