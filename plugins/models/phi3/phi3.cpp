// Phi-3 and Phi-4: a Llama with one projection for q, k and v, one for gate and up, and LongRoPE in
// the files with a long context. Abdin et al. 2024, "Phi-3 Technical Report".
#include "espalier/io/config_reader.h"
#include "espalier/nn/decoder_config.h"
#include "espalier/nn/decoder_model.h"
#include "espalier/sdk/capabilities.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

/// The config with the names that the first files use replaced: "su" and "yarn" are LongRoPE, and a
/// missing `original_max_position_embeddings` is 4096, also where the scaling has another.
Value modernised(const Value& config) {
  Value modern = config;
  Table& table = modern.as_table();
  if (!table.contains("original_max_position_embeddings"))
    table.set("original_max_position_embeddings", std::int64_t{4096});
  for (const char* scaling : {"rope_scaling", "rope_parameters"}) {
    Value* rope = table.find(scaling);
    if (rope == nullptr || !rope->is_table()) continue;
    for (const char* key : {"rope_type", "type"}) {
      Value* kind = rope->as_table().find(key);
      if (kind != nullptr && kind->is_string() &&
          (kind->as_string() == "su" || kind->as_string() == "yarn"))
        *kind = Value("longrope");
    }
  }
  return modern;
}

nn::DecoderSpec decoder_spec(const Value& original) {
  const Value config = modernised(original);
  nn::ConfigDefaults defaults;
  defaults.max_position_embeddings = 4096;
  defaults.norm_eps = 1e-5;
  defaults.rotary.partial = 1.0;
  nn::DecoderSpec spec = nn::decoder_spec_from_config(config, defaults);
  spec.names.fused_query_key_value = "self_attn.qkv_proj";
  spec.names.fused_gate_up = "mlp.gate_up_proj";
  const std::optional<std::int64_t> window = nn::sliding_window_from_config(config);
  const std::vector<bool> slides(static_cast<std::size_t>(spec.num_layers), window.has_value());
  nn::set_sliding_windows(spec, config, slides, window);
  return spec;
}

/// Empty, or why not: transformers builds this family with plain rotary positions or LongRoPE.
std::string refuse_other_scalings(const nn::DecoderSpec& spec) {
  const nn::RotarySpec::Kind kind = spec.rotary[0].kind;
  const bool known =
      kind == nn::RotarySpec::Kind::kDefault || kind == nn::RotarySpec::Kind::kLongrope;
  return known ? "" : "this family has no rotary scaling but 'longrope'";
}

class Phi3Provider final : public ModelProvider {
 public:
  std::string accepts(const Value& config) const override {
    return refuse_other_scalings(decoder_spec(config));
  }
  std::unique_ptr<Model> build(const Value& config) const override {
    return std::make_unique<nn::DecoderModel>(decoder_spec(config));
  }
};

void register_components(Registrar& registrar) {
  registrar.add<ModelProvider, Phi3Provider>("phi3", "Phi-3 and Phi-4 decoders")
      .serves("architectures", {"Phi3ForCausalLM"})
      .serves("model_types", {"phi3"})
      .property("capabilities", decoder_capabilities({capability::kAttentionChoice}));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.phi3", "0.1.0", espalier::register_components)
