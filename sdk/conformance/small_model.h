#pragma once

#include <memory>

#include "espalier/sdk/model.h"

namespace espalier::conformance {

/// Gives every parameter of a model that is still on the meta device a random value: the spec's
/// initialisation, with matrices drawn wide enough that every path matters. On the CPU, float32.
void give_values(Model& model, std::uint64_t seed);

/// The kit's own decoder, for components that need a model to act on: two Llama layers with the
/// usual names (model.layers.0.self_attn.q_proj, ...), hidden size 16, `kSmallVocabulary` tokens.
constexpr std::int64_t kSmallVocabulary = 37;
constexpr std::int64_t kSmallHidden = 16;
std::unique_ptr<Model> small_model(std::uint64_t seed);
std::unique_ptr<Model> small_model_on_meta();

/// Flat hidden states [tokens, embed] of `input_ids` [batch, seq] int64.
at::Tensor hidden_states(Model& model, const at::Tensor& input_ids);

}  // namespace espalier::conformance
