#pragma once

#include <memory>
#include <optional>

#include "espalier/nn/attention_core.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/mixer.h"
#include "espalier/nn/norm.h"

namespace espalier::deepseek_v3 {

/// Names as in config.json.
struct LatentAttentionSpec {
  std::optional<std::int64_t> q_lora_rank;  ///< none: queries are not compressed
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;
  bool bias = false;
};

/// Multi-head latent attention: keys and values of all heads come from one short latent a token,
/// queries from another; positions turn a separate part of the query and one key part that all
/// heads share. hidden [tokens, embed] -> [tokens, embed]. DeepSeek-AI 2024, "DeepSeek-V2".
class LatentAttention final : public nn::Mixer {
 public:
  LatentAttention(const nn::ModuleScope& scope, const nn::DecoderSpec& decoder,
                  const LatentAttentionSpec& spec, std::int64_t layer);
  at::Tensor forward(const at::Tensor& hidden, const BatchContext& context,
                     CarriedTensors& carried) override;

 private:
  at::Tensor queries(const at::Tensor& hidden) const;

  LatentAttentionSpec spec_;
  std::int64_t layer_;
  double scale_;
  bool interleaved_;
  std::unique_ptr<nn::Linear> query_;  ///< the only one, or from the latent
  std::unique_ptr<nn::Linear> query_latent_;
  std::unique_ptr<nn::Norm> query_norm_;
  std::unique_ptr<nn::Linear> key_value_latent_;
  std::unique_ptr<nn::Norm> key_value_norm_;
  std::unique_ptr<nn::Linear> key_value_;
  std::unique_ptr<nn::Linear> output_;
  std::shared_ptr<nn::AttentionCore> core_;
};

}  // namespace espalier::deepseek_v3
