#include "latent_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>

#include <algorithm>

#include "espalier/ops/rotary.h"

namespace espalier::deepseek_v3 {
namespace {

constexpr double kLatentNormEps = 1e-6;  // fixed in the family, whatever rms_norm_eps says

nn::NormSpec latent_norm() {
  nn::NormSpec spec;
  spec.eps = kLatentNormEps;
  return spec;
}

/// [tokens, heads, dim] -> [tokens, heads, width], zeros at the end.
at::Tensor widened(const at::Tensor& x, std::int64_t width) {
  return x.size(-1) == width ? x : at::constant_pad_nd(x, {0, width - x.size(-1)});
}

}  // namespace

LatentAttention::LatentAttention(const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
                                 const LatentAttentionSpec& spec, std::int64_t layer)
    : spec_(spec),
      layer_(layer),
      scale_(decoder.attention_scale.value()),
      interleaved_(decoder.rotary.at(0).interleaved),
      core_(std::make_shared<nn::DocumentAttention>()) {
  const nn::ModuleScope here = scope.child("self_attn");
  const std::int64_t heads = decoder.num_attention_heads;
  const std::int64_t query_dim = spec.qk_nope_head_dim + spec.qk_rope_head_dim;
  const std::int64_t key_value_dim = spec.qk_nope_head_dim + spec.v_head_dim;
  const Dimension embed = nn::dimension("embed", decoder.hidden_size);
  const Dimension query_heads = nn::dimension("heads", heads * query_dim, query_dim);
  if (spec.q_lora_rank) {
    const Dimension latent = nn::dimension("latent", *spec.q_lora_rank);
    query_latent_ = nn::make_linear(here, decoder, "q_a_proj", latent, embed, spec.bias);
    query_norm_ = std::make_unique<nn::Norm>(here.child("q_a_layernorm"), latent_norm(), latent);
    query_ = nn::make_linear(here, decoder, "q_b_proj", query_heads, latent, false);
  } else {
    query_ = nn::make_linear(here, decoder, "q_proj", query_heads, embed, false);
  }
  const Dimension latent = nn::dimension("latent", spec.kv_lora_rank);
  const Dimension compressed{{{"latent", spec.kv_lora_rank, 1},
                              {"head_dim", spec.qk_rope_head_dim, spec.qk_rope_head_dim}}};
  key_value_latent_ =
      nn::make_linear(here, decoder, "kv_a_proj_with_mqa", compressed, embed, spec.bias);
  key_value_norm_ = std::make_unique<nn::Norm>(here.child("kv_a_layernorm"), latent_norm(), latent);
  key_value_ =
      nn::make_linear(here, decoder, "kv_b_proj",
                      nn::dimension("heads", heads * key_value_dim, key_value_dim), latent, false);
  output_ =
      nn::make_linear(here, decoder, "o_proj", embed,
                      nn::dimension("heads", heads * spec.v_head_dim, spec.v_head_dim), spec.bias);
  nn::ModuleScope owner = scope;
  owner.parts().attention_cores.emplace_back(scope.prefix(), &core_);
}

at::Tensor LatentAttention::queries(const at::Tensor& hidden) const {
  if (!query_latent_) return query_->forward(hidden);
  return query_->forward(query_norm_->forward(query_latent_->forward(hidden)));
}

at::Tensor LatentAttention::forward(const at::Tensor& hidden, const BatchContext& context,
                                    CarriedTensors&) {
  const RotaryTables& tables = context.rotary.at(0);
  const auto turned = [&](const at::Tensor& x) {
    return ops::rotary(x, tables.cos, tables.sin, interleaved_);
  };
  const std::int64_t nope = spec_.qk_nope_head_dim;
  const std::int64_t rope = spec_.qk_rope_head_dim;
  const at::Tensor q = queries(hidden).unflatten(-1, {-1, nope + rope});  // [tokens, heads, dim]
  const at::Tensor compressed = key_value_latent_->forward(hidden);
  const at::Tensor latent = key_value_norm_->forward(compressed.narrow(-1, 0, spec_.kv_lora_rank));
  const at::Tensor shared_key =
      turned(compressed.narrow(-1, spec_.kv_lora_rank, rope).unsqueeze(1));  // [tokens, 1, rope]
  const at::Tensor key_value =
      key_value_->forward(latent).unflatten(-1, {-1, nope + spec_.v_head_dim});

  const at::Tensor query = at::cat({q.narrow(-1, 0, nope), turned(q.narrow(-1, nope, rope))}, -1);
  const at::Tensor key =
      at::cat({key_value.narrow(-1, 0, nope), shared_key.expand({-1, key_value.size(1), -1})}, -1);
  // Fused attention takes values as wide as keys: zeros fill them up and are cut off again.
  const std::int64_t width = std::max(nope + rope, spec_.v_head_dim);
  const at::Tensor value = key_value.narrow(-1, nope, spec_.v_head_dim);
  const at::Tensor mixed = core_->attend(widened(query, width), widened(key, width),
                                         widened(value, width), {context, layer_, scale_});
  return output_->forward(mixed.narrow(-1, 0, spec_.v_head_dim).flatten(-2, -1));
}

}  // namespace espalier::deepseek_v3
