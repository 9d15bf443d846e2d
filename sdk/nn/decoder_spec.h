#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/nn/linear.h"
#include "espalier/nn/module_scope.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/rotary_embedding.h"
#include "espalier/ops/gated_activation.h"

namespace espalier::nn {

/// Where the parts of a decoder are called what, relative to `layer` for those inside a layer. "{}"
/// is the layer number. A part whose name is "" is not there.
struct DecoderNames {
  std::string embedding = "model.embed_tokens";
  std::string embedding_projection;  ///< from embedding_size to hidden_size
  std::string positions;             ///< learned position table
  std::string layer = "model.layers.{}";
  std::string final_norm = "model.norm";
  std::string output_projection;  ///< from hidden_size to embedding_size, before the head
  std::string head = "lm_head";

  std::string attention_norm = "input_layernorm";
  std::string attention_output_norm;  ///< on what attention gives, before it is added
  std::string mlp_norm = "post_attention_layernorm";
  std::string mlp_output_norm;

  std::string query = "self_attn.q_proj";
  std::string key = "self_attn.k_proj";
  std::string value = "self_attn.v_proj";
  std::string fused_query_key_value;            ///< one projection for all three, instead of them
  std::string query_norm = "self_attn.q_norm";  ///< a further "{}" is the head: see PerHeadNorm
  std::string key_norm = "self_attn.k_norm";
  std::string attention_output = "self_attn.o_proj";
  std::string attention_sinks = "self_attn.sinks";  ///< not a module: its weight has this name

  std::string gate = "mlp.gate_proj";
  std::string up = "mlp.up_proj";
  std::string fused_gate_up;  ///< one projection for both, instead of them
  std::string down = "mlp.down_proj";
};

/// How attention and MLP of a layer join the residual stream h.
enum class ResidualPlan {
  kSequential,  ///< h += attention(norm(h));  h += mlp(norm(h))
  kParallel,  ///< h += attention(norm(h)) + mlp(norm(h)), one norm for both where `mlp_norm` is ""
  kPostNorm   ///< h = norm(h + attention(h));  h = norm(h + mlp(h))
};

/// Rows of a fused q/k/v projection.
enum class FusedLayout {
  kParts,  ///< all of q, all of k, all of v
  kGroups  ///< for each key head its query heads, then its k, then its v
};

/// Norms of queries and keys, before rotary positions.
struct QueryKeyNormSpec {
  enum class Span {
    kHead,      ///< over each head, one weight [head_dim] for all of them
    kEachHead,  ///< over each head, a weight [heads, head_dim]: see PerHeadNorm
    kAllHeads   ///< over the whole projection, a weight [heads * head_dim]
  };
  Span span = Span::kHead;
  NormSpec norm;
};

/// What may differ from layer to layer.
struct LayerSpec {
  std::optional<std::int64_t> sliding_window;  ///< keys at distance < window are seen
  /// Which of DecoderSpec::rotary turns queries and keys; none in a layer without positions (NoPE).
  std::optional<std::size_t> rotary;
  double attention_scale = 1.0;  ///< a further factor on the scores
};

/// A decoder family as data: what differs between families that share the plan of a decoder layer.
/// A family plugin translates config.json to this; what it can't say, the family writes as its own
/// Mixer or Block (DecoderParts).
struct ESPALIER_API DecoderSpec {
  DecoderNames names;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t embedding_size = 0;  ///< width of the token table; 0: hidden_size
  std::int64_t intermediate_size = 0;
  /// Inner width that a token passes through in an own MLP (the experts of one token), for
  /// ModelShape; 0: intermediate_size.
  std::int64_t active_intermediate_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;
  std::int64_t position_offset = 0;        ///< rows before position 0 in a learned position table
  std::optional<std::int64_t> padding_id;  ///< a token whose embedding is not trained

  NormSpec norm;
  ResidualPlan residual = ResidualPlan::kSequential;
  double residual_scale = 1.0;  ///< on what is added to the residual stream

  std::vector<RotarySpec> rotary;  ///< empty: no rotary positions
  std::vector<LayerSpec> layers;   ///< one a layer; empty: no windows, the first rotary everywhere
  bool alibi = false;
  bool recurrent = false;  ///< own layers carry a state along the text
  bool attention_sinks =
      false;  ///< each head has a learned score that takes a share of the softmax
  std::optional<QueryKeyNormSpec> query_key_norm;
  FusedLayout fused_layout = FusedLayout::kParts;
  std::optional<double> attention_scale;     ///< default 1 / sqrt(head_dim)
  std::optional<double> attention_soft_cap;  ///< scores become cap * tanh(score / cap)
  bool query_key_value_bias = false;
  bool attention_output_bias = false;

  ops::Activation activation = ops::Activation::kSilu;
  bool mlp_bias = false;
  bool transposed_linears = false;  ///< weights stored as [in, out]

  double embedding_scale = 1.0;
  bool scale_given_embeddings = false;  ///< `inputs_embeds` too, not just what is looked up
  bool tie_word_embeddings = false;
  bool head_bias = false;
  double logit_scale = 1.0;
  std::optional<double> logit_soft_cap;  ///< applied after the scale

  double initializer_range = 0.02;
  /// Names on disk that carry nothing new ("model.layers.0.self_attn.rotary_emb.inv_freq"):
  /// patterns with '*'.
  std::vector<std::string> ignored_on_disk;

  LayerSpec layer(std::int64_t index) const;
  std::int64_t width_of_embedding() const {
    return embedding_size == 0 ? hidden_size : embedding_size;
  }
};

/// One segment along `axis`, `unit` indices of which belong together.
ESPALIER_API Dimension dimension(const char* axis, std::int64_t size, std::int64_t unit = 1);

/// A projection below `scope`, with the layout on disk and the initialisation of the family.
ESPALIER_API std::unique_ptr<Linear> make_linear(const ModuleScope& scope, const DecoderSpec& spec,
                                                 const std::string& name, Dimension out,
                                                 Dimension in, bool bias);

}  // namespace espalier::nn
