#pragma once

#include <memory>
#include <optional>

#include "espalier/nn/attention_core.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/mixer.h"
#include "espalier/nn/norm.h"

namespace espalier::nn {

/// Norm of queries or keys before they are turned: x [tokens, heads, head_dim] -> same shape.
class ESPALIER_API QueryKeyNorm {
 public:
  /// `heads` is the dimension of the projection, heads * head_dim.
  QueryKeyNorm(const ModuleScope& scope, const std::string& name, const QueryKeyNormSpec& spec,
               const Dimension& heads, std::int64_t head_dim);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  QueryKeyNormSpec::Span span_;
  std::unique_ptr<Norm> shared_;
  std::unique_ptr<PerHeadNorm> per_head_;
};

/// Self attention: hidden [tokens, embed] -> [tokens, embed].
class ESPALIER_API Attention final : public Mixer {
 public:
  Attention(const ModuleScope& scope, const DecoderSpec& spec, std::int64_t layer);
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                     CarriedTensors& carried) override;

 private:
  struct Heads {
    at::Tensor query;  ///< [tokens, heads, head_dim]
    at::Tensor key;    ///< [tokens, kv_heads, head_dim]
    at::Tensor value;
  };
  void make_projections(const ModuleScope& scope, const DecoderSpec& spec);
  Heads project(const at::Tensor& hidden) const;
  Heads split(const at::Tensor& fused) const;

  std::int64_t layer_;
  std::int64_t head_dim_;
  std::int64_t queries_per_key_;
  double scale_;
  std::optional<double> soft_cap_;
  bool alibi_;
  FusedLayout fused_layout_;
  LayerSpec layer_spec_;
  bool interleaved_rotary_ = false;
  std::unique_ptr<Linear> fused_;
  std::unique_ptr<Linear> query_;
  std::unique_ptr<Linear> key_;
  std::unique_ptr<Linear> value_;
  std::unique_ptr<Linear> output_;
  std::unique_ptr<QueryKeyNorm> query_norm_;
  std::unique_ptr<QueryKeyNorm> key_norm_;
  std::shared_ptr<Parameter> sinks_;
  std::shared_ptr<AttentionCore> core_;
};

}  // namespace espalier::nn
