#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/nn/norm.h"
#include "espalier/nn/rotary_embedding.h"
#include "espalier/ops/gated_activation.h"

namespace espalier::nn {

/// Where the parts of a decoder are called what, relative to `layer` for those inside a layer. "{}"
/// is the layer number.
struct DecoderNames {
  std::string embedding = "model.embed_tokens";
  std::string positions;  ///< learned position table; "" without one
  std::string layer = "model.layers.{}";
  std::string final_norm = "model.norm";
  std::string head = "lm_head";
  std::string attention_norm = "input_layernorm";
  std::string mlp_norm = "post_attention_layernorm";
  std::string query = "self_attn.q_proj";
  std::string key = "self_attn.k_proj";
  std::string value = "self_attn.v_proj";
  std::string fused_query_key_value;  ///< one projection for all three; "" for separate ones
  std::string attention_output = "self_attn.o_proj";
  std::string gate = "mlp.gate_proj";  ///< "" for an MLP without a gate
  std::string up = "mlp.up_proj";
  std::string down = "mlp.down_proj";
};

/// A decoder family as data: what differs between families that share the plan
///   h += attention(norm(h));  h += mlp(norm(h)).
/// A family plugin translates config.json to this; what it can't say, the family writes as its own
/// block.
struct DecoderSpec {
  DecoderNames names;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;

  NormSpec norm;
  std::optional<RotarySpec> rotary;
  bool query_key_value_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool transposed_linears = false;  ///< weights stored as [in, out]
  ops::Activation activation = ops::Activation::kSilu;
  std::optional<double> attention_scale;                     ///< default 1 / sqrt(head_dim)
  std::vector<std::optional<std::int64_t>> sliding_windows;  ///< one a layer; empty: none anywhere
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  /// Names on disk that carry nothing new ("model.layers.0.self_attn.rotary_emb.inv_freq"):
  /// patterns with '*'.
  std::vector<std::string> ignored_on_disk;
};

}  // namespace espalier::nn
