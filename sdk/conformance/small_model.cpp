#include "espalier/conformance/small_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "espalier/io/initial_value.h"
#include "espalier/nn/decoder_model.h"

namespace espalier::conformance {

void give_values(Model& model, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.parts().parameters) {
    if (!parameter->value().is_meta()) continue;
    ParameterSpec spec = parameter->spec();
    // A standard deviation of 0.02 in a model this small would hide errors behind rounding; zeros
    // would hide that a bias is never added, ones that a norm ignores its weight.
    using Kind = Initialisation::Kind;
    const Kind kind = spec.initialisation.kind;
    if (kind == Kind::kNormal) spec.initialisation.standard_deviation = 0.2;
    at::Tensor value = initial_value(spec, at::kFloat, seed);
    if (kind == Kind::kZeros || kind == Kind::kOnes) {
      spec.initialisation = {.kind = Kind::kNormal, .standard_deviation = 0.1};
      value = value + initial_value(spec, at::kFloat, seed + 1);
    }
    parameter->set_value(value);
  }
}

std::unique_ptr<Model> small_model_on_meta() {
  nn::DecoderSpec spec;
  spec.vocab_size = kSmallVocabulary;
  spec.hidden_size = kSmallHidden;
  spec.intermediate_size = 24;
  spec.num_layers = 2;
  spec.num_attention_heads = 4;
  spec.num_key_value_heads = 2;
  spec.head_dim = 4;
  spec.max_positions = 64;
  spec.rotary = {nn::RotarySpec{.dim = 4, .max_position_embeddings = 64}};
  return std::make_unique<nn::DecoderModel>(std::move(spec));
}

std::unique_ptr<Model> small_model(std::uint64_t seed) {
  auto model = small_model_on_meta();
  give_values(*model, seed);
  return model;
}

at::Tensor hidden_states(Model& model, const at::Tensor& input_ids) {
  return model.forward({{{"input_ids", input_ids}}}).hidden;
}

}  // namespace espalier::conformance
