#include "espalier/nn/decoder_block.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/split.h>

#include <cmath>

#include "espalier/ops/rotary.h"

namespace espalier::nn {
namespace {

Dimension dimension(const char* axis, std::int64_t size, std::int64_t unit = 1) {
  return {{{axis, size, unit}}};
}

std::string layer_prefix(const DecoderSpec& spec, std::int64_t layer) {
  std::string prefix = spec.names.layer;
  return prefix.replace(prefix.find("{}"), 2, std::to_string(layer));
}

std::unique_ptr<Linear> make_linear(const ModuleScope& scope, const DecoderSpec& spec,
                                    const std::string& name, Dimension out, Dimension in,
                                    bool bias) {
  return std::make_unique<Linear>(
      scope.child(name), LinearSpec{std::move(out), std::move(in), bias, spec.transposed_linears,
                                    spec.initializer_range});
}

}  // namespace

Attention::Attention(const ModuleScope& scope, const DecoderSpec& spec, std::int64_t layer)
    : layer_(layer),
      head_dim_(spec.head_dim),
      num_attention_heads_(spec.num_attention_heads),
      num_key_value_heads_(spec.num_key_value_heads),
      scale_(spec.attention_scale.value_or(1.0 / std::sqrt(static_cast<double>(spec.head_dim)))),
      interleaved_rotary_(spec.rotary && spec.rotary->interleaved),
      core_(std::make_shared<DocumentAttention>()) {
  if (!spec.sliding_windows.empty())
    sliding_window_ = spec.sliding_windows.at(static_cast<std::size_t>(layer));
  const Dimension embed = dimension("embed", spec.hidden_size);
  const Dimension heads = dimension("heads", num_attention_heads_ * head_dim_, head_dim_);
  const Dimension kv_heads = dimension("kv_heads", num_key_value_heads_ * head_dim_, head_dim_);
  const bool bias = spec.query_key_value_bias;
  if (!spec.names.fused_query_key_value.empty()) {
    const Dimension all{{heads.segments[0], kv_heads.segments[0], kv_heads.segments[0]}};
    fused_ = make_linear(scope, spec, spec.names.fused_query_key_value, all, embed, bias);
  } else {
    query_ = make_linear(scope, spec, spec.names.query, heads, embed, bias);
    key_ = make_linear(scope, spec, spec.names.key, kv_heads, embed, bias);
    value_ = make_linear(scope, spec, spec.names.value, kv_heads, embed, bias);
    ModuleScope owner = scope;
    owner.parts().linear_groups.push_back(
        {scope.qualified("qkv"), {query_.get(), key_.get(), value_.get()}});
  }
  output_ = make_linear(scope, spec, spec.names.attention_output, embed, heads,
                        spec.attention_output_bias);
  ModuleScope owner = scope;
  owner.parts().attention_cores.emplace_back(scope.prefix(), &core_);
}

at::Tensor Attention::forward(const at::Tensor& hidden, const BatchContext& context) {
  at::Tensor q;
  at::Tensor k;
  at::Tensor v;
  if (fused_) {
    // A rank may hold some of the heads: the parts keep their proportion.
    const at::Tensor all = fused_->forward(hidden);
    const std::int64_t unit = all.size(-1) / (num_attention_heads_ + 2 * num_key_value_heads_);
    q = all.narrow(-1, 0, unit * num_attention_heads_);
    k = all.narrow(-1, unit * num_attention_heads_, unit * num_key_value_heads_);
    v = all.narrow(-1, unit * (num_attention_heads_ + num_key_value_heads_),
                   unit * num_key_value_heads_);
  } else {
    q = query_->forward(hidden);
    k = key_->forward(hidden);
    v = value_->forward(hidden);
  }
  q = q.unflatten(-1, {-1, head_dim_});  // [tokens, heads, head_dim]
  k = k.unflatten(-1, {-1, head_dim_});
  v = v.unflatten(-1, {-1, head_dim_});
  if (context.rotary_cos.defined()) {
    q = ops::rotary(q, context.rotary_cos, context.rotary_sin, interleaved_rotary_);
    k = ops::rotary(k, context.rotary_cos, context.rotary_sin, interleaved_rotary_);
  }
  const at::Tensor mixed = core_->attend(q, k, v, {context, layer_, scale_, sliding_window_});
  return output_->forward(mixed.flatten(-2, -1));
}

Mlp::Mlp(const ModuleScope& scope, const DecoderSpec& spec) : activation_(spec.activation) {
  const Dimension embed = dimension("embed", spec.hidden_size);
  const Dimension inner = dimension("mlp", spec.intermediate_size);
  if (!spec.names.gate.empty())
    gate_ = make_linear(scope, spec, spec.names.gate, inner, embed, spec.mlp_bias);
  up_ = make_linear(scope, spec, spec.names.up, inner, embed, spec.mlp_bias);
  down_ = make_linear(scope, spec, spec.names.down, embed, inner, spec.mlp_bias);
  if (gate_) {
    ModuleScope owner = scope;
    owner.parts().linear_groups.push_back({scope.qualified("gate_up"), {gate_.get(), up_.get()}});
  }
}

at::Tensor Mlp::forward(const at::Tensor& hidden) const {
  if (!gate_) return down_->forward(ops::activate(up_->forward(hidden), activation_));
  return down_->forward(
      ops::gated_activation(gate_->forward(hidden), up_->forward(hidden), activation_));
}

EmbeddingBlock::EmbeddingBlock(ModelParts& parts, const DecoderSpec& spec)
    : NamedBlock(spec.names.embedding) {
  const Dimension embed = dimension("embed", spec.hidden_size);
  tokens_ = std::make_unique<Embedding>(scope(parts, spec.names.embedding),
                                        dimension("vocab", spec.vocab_size), embed,
                                        spec.initializer_range);
  if (!spec.names.positions.empty()) {
    positions_ = std::make_unique<Embedding>(scope(parts, spec.names.positions),
                                             dimension("positions", spec.max_positions), embed,
                                             spec.initializer_range);
  }
}

BlockState EmbeddingBlock::forward(BlockState state, const BatchContext& context) {
  if (!state.hidden.defined()) state.hidden = tokens_->forward(context.input_ids, compute_dtype_);
  if (positions_)
    state.hidden = state.hidden + positions_->forward(context.position_ids, compute_dtype_);
  return state;
}

DecoderBlock::DecoderBlock(ModelParts& parts, const DecoderSpec& spec, std::int64_t layer)
    : NamedBlock(layer_prefix(spec, layer)) {
  const ModuleScope here = scope(parts, name());
  const Dimension embed = dimension("embed", spec.hidden_size);
  attention_norm_ = std::make_unique<Norm>(here.child(spec.names.attention_norm), spec.norm, embed);
  attention_ = std::make_unique<Attention>(here, spec, layer);
  mlp_norm_ = std::make_unique<Norm>(here.child(spec.names.mlp_norm), spec.norm, embed);
  mlp_ = std::make_unique<Mlp>(here, spec);
}

BlockState DecoderBlock::forward(BlockState state, const BatchContext& context) {
  state.hidden =
      state.hidden + attention_->forward(attention_norm_->forward(state.hidden), context);
  state.hidden = state.hidden + mlp_->forward(mlp_norm_->forward(state.hidden));
  return state;
}

FinalNormBlock::FinalNormBlock(ModelParts& parts, const DecoderSpec& spec)
    : NamedBlock(spec.names.final_norm) {
  norm_ =
      std::make_unique<Norm>(scope(parts, name()), spec.norm, dimension("embed", spec.hidden_size));
}

BlockState FinalNormBlock::forward(BlockState state, const BatchContext&) {
  state.hidden = norm_->forward(state.hidden);
  return state;
}

}  // namespace espalier::nn
