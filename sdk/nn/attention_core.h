#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

#include "espalier/sdk/model.h"

namespace espalier::nn {

/// What an attention call needs beyond q, k and v.
struct AttentionContext {
  const BatchContext& batch;  ///< for the time of the call
  std::int64_t layer = 0;
  double scale = 1.0;                          ///< of the scores, usually 1 / sqrt(head_dim)
  std::optional<std::int64_t> sliding_window;  ///< keys at distance < window are seen
  /// Scores become cap * tanh(score / cap).
  std::optional<double> soft_cap;
  /// [heads], or undefined: a further score of each head that takes its share of the softmax and
  /// contributes no value.
  at::Tensor sinks;
  /// [heads, positions] float32, or undefined: added to the scores of the key at each position of a
  /// document (ALiBi).
  at::Tensor key_bias;
  /// [n, kv_heads, head_dim] each, or undefined: keys and values that stand before those of every
  /// document, and are seen by all of its queries within the window.
  at::Tensor prefix_keys = {};
  at::Tensor prefix_values = {};
};

/// The seat of attention: q [tokens, heads, head_dim], k and v [tokens, kv_heads, head_dim] ->
/// [tokens, heads, head_dim] in q's dtype. Head counts come from the tensors, so that a rank may
/// hold some of the heads. Shared by the module and whoever set it; run by the thread that runs the
/// model, which is autograd's where a backward pass recomputes.
class ESPALIER_API AttentionCore {
 public:
  AttentionCore() = default;
  AttentionCore(const AttentionCore&) = delete;
  AttentionCore& operator=(const AttentionCore&) = delete;
  virtual ~AttentionCore();

  virtual at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionContext& context) = 0;
};

/// `core` for q, k and v that have a row for each row of the hidden states, as the result has:
/// where tokens share rows (SharedRows), the core is given a row for each token.
ESPALIER_API at::Tensor attend(AttentionCore& core, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const AttentionContext& context);

/// Causal attention inside each document, through LibTorch's scaled dot product attention: no score
/// matrix is kept and no mask is made unless a sliding window is shorter than a document. With a
/// soft cap, sinks or a key bias the scores are written out, [queries, keys] for each head and
/// document. Documents of equal length that follow each other run as one batch.
class ESPALIER_API DocumentAttention final : public AttentionCore {
 public:
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionContext& context) override;
};

}  // namespace espalier::nn
