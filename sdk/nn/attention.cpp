#include "espalier/nn/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cmath>

#include "espalier/nn/alibi.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/ops/rotary.h"

namespace espalier::nn {
namespace {

/// Places of the longest document, with what a cache holds of it and what stands before it.
std::int64_t longest_document(const BatchContext& context) {
  const std::vector<std::int64_t>& starts = context.layout.document_starts;
  std::int64_t longest = 0;
  for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
    const std::int64_t past =
        context.cache == nullptr ? 0 : context.cache->length(static_cast<std::int64_t>(d));
    longest = std::max(longest, past + starts[d + 1] - starts[d]);
  }
  return context.prefix_keys + longest;
}

}  // namespace

QueryKeyNorm::QueryKeyNorm(const ModuleScope& scope, const std::string& name,
                           const QueryKeyNormSpec& spec, const Dimension& heads,
                           std::int64_t head_dim)
    : span_(spec.span) {
  AxisSegment segment = heads.segments[0];
  switch (span_) {
    case QueryKeyNormSpec::Span::kHead: segment = {"head_dim", head_dim, head_dim}; [[fallthrough]];
    case QueryKeyNormSpec::Span::kAllHeads:
      shared_ = std::make_unique<Norm>(scope.child(name), spec.norm, Dimension{{segment}});
      break;
    case QueryKeyNormSpec::Span::kEachHead:
      segment.size /= head_dim;
      segment.unit = 1;
      per_head_ =
          std::make_unique<PerHeadNorm>(scope, name, spec.norm.eps, Dimension{{segment}}, head_dim);
  }
}

at::Tensor QueryKeyNorm::forward(const at::Tensor& x) const {
  switch (span_) {
    case QueryKeyNormSpec::Span::kHead: return shared_->forward(x.flatten(0, 1)).view_as(x);
    case QueryKeyNormSpec::Span::kAllHeads: return shared_->forward(x.flatten(1, 2)).view_as(x);
    case QueryKeyNormSpec::Span::kEachHead: return per_head_->forward(x);
  }
  return {};
}

Attention::Attention(const ModuleScope& scope, const DecoderSpec& spec, std::int64_t layer)
    : layer_(layer),
      head_dim_(spec.head_dim),
      queries_per_key_(spec.num_attention_heads / spec.num_key_value_heads),
      scale_(spec.attention_scale.value_or(1.0 / std::sqrt(static_cast<double>(spec.head_dim)))),
      soft_cap_(spec.attention_soft_cap),
      alibi_(spec.alibi),
      fused_layout_(spec.fused_layout),
      layer_spec_(spec.layer(layer)),
      core_(std::make_shared<DocumentAttention>()) {
  scale_ *= layer_spec_.attention_scale;
  if (layer_spec_.rotary) interleaved_rotary_ = spec.rotary.at(*layer_spec_.rotary).interleaved;
  make_projections(scope, spec);
  ModuleScope owner = scope;
  if (spec.attention_sinks) {
    sinks_ =
        owner.parameter(spec.names.attention_sinks, {dimension("heads", spec.num_attention_heads)},
                        {Initialisation::Kind::kNormal, spec.initializer_range});
  }
  owner.parts().attention_cores.emplace_back(scope.prefix(), &core_);
}

void Attention::make_projections(const ModuleScope& scope, const DecoderSpec& spec) {
  const DecoderNames& names = spec.names;
  const Dimension embed = dimension("embed", spec.hidden_size);
  const Dimension heads = dimension("heads", spec.num_attention_heads * head_dim_, head_dim_);
  const Dimension kv_heads = dimension("kv_heads", spec.num_key_value_heads * head_dim_, head_dim_);
  const bool bias = spec.query_key_value_bias;
  if (names.fused_query_key_value.empty()) {
    query_ = make_linear(scope, spec, names.query, heads, embed, bias);
    key_ = make_linear(scope, spec, names.key, kv_heads, embed, bias);
    value_ = make_linear(scope, spec, names.value, kv_heads, embed, bias);
    ModuleScope owner = scope;
    owner.parts().linear_groups.push_back(
        {scope.qualified("qkv"), {query_.get(), key_.get(), value_.get()}});
  } else {
    const std::int64_t group = (queries_per_key_ + 2) * head_dim_;
    const Dimension fused =
        fused_layout_ == FusedLayout::kParts
            ? Dimension{{heads.segments[0], kv_heads.segments[0], kv_heads.segments[0]}}
            : dimension("kv_heads", spec.num_key_value_heads * group, group);
    fused_ = make_linear(scope, spec, names.fused_query_key_value, fused, embed, bias);
  }
  output_ =
      make_linear(scope, spec, names.attention_output, embed, heads, spec.attention_output_bias);
  if (spec.query_key_norm) {
    query_norm_ = std::make_unique<QueryKeyNorm>(scope, names.query_norm, *spec.query_key_norm,
                                                 heads, head_dim_);
    key_norm_ = std::make_unique<QueryKeyNorm>(scope, names.key_norm, *spec.query_key_norm,
                                               kv_heads, head_dim_);
  }
}

Attention::Heads Attention::split(const at::Tensor& fused) const {
  // A rank may hold some of the heads: the parts keep their proportion, unless it holds some of the
  // queries of a single key.
  const at::Tensor all = fused.unflatten(-1, {-1, head_dim_});  // [tokens, all heads, head_dim]
  const std::int64_t groups = std::max<std::int64_t>(1, all.size(1) / (queries_per_key_ + 2));
  const std::int64_t queries = std::min(groups * queries_per_key_, all.size(1) - 2 * groups);
  if (fused_layout_ == FusedLayout::kParts)
    return {all.narrow(1, 0, queries), all.narrow(1, queries, groups),
            all.narrow(1, queries + groups, groups)};
  const at::Tensor grouped = all.unflatten(1, {groups, -1});
  return {grouped.narrow(2, 0, queries_per_key_).flatten(1, 2), grouped.select(2, queries_per_key_),
          grouped.select(2, queries_per_key_ + 1)};
}

Attention::Heads Attention::project(const at::Tensor& hidden) const {
  if (fused_) return split(fused_->forward(hidden));
  return {query_->forward(hidden).unflatten(-1, {-1, head_dim_}),
          key_->forward(hidden).unflatten(-1, {-1, head_dim_}),
          value_->forward(hidden).unflatten(-1, {-1, head_dim_})};
}

at::Tensor Attention::forward(const at::Tensor& hidden, const BatchContext& context,
                              CarriedTensors&) {
  Heads heads = project(hidden);
  if (query_norm_) {
    heads.query = query_norm_->forward(heads.query);
    heads.key = key_norm_->forward(heads.key);
  }
  if (layer_spec_.rotary) {
    const RotaryTables& tables = context.rotary.at(*layer_spec_.rotary);
    heads.query = ops::rotary(heads.query, tables.cos, tables.sin, interleaved_rotary_);
    heads.key = ops::rotary(heads.key, tables.cos, tables.sin, interleaved_rotary_);
  }
  AttentionContext attention{context,   layer_, scale_, layer_spec_.sliding_window,
                             soft_cap_, {},     {}};
  if (sinks_) attention.sinks = sinks_->computed();
  if (alibi_)
    attention.key_bias = (alibi_bias(heads.query.size(1), longest_document(context)) * scale_)
                             .to(heads.query.device());
  const at::Tensor mixed = attend(*core_, heads.query, heads.key, heads.value, attention);
  return output_->forward(mixed.flatten(-2, -1));
}

}  // namespace espalier::nn
