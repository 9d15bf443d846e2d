#pragma once

#include "espalier/ops/op.h"

namespace espalier::ops {

/// softmax(scale q k^T) v inside each document, every token seeing itself and those before it at a
/// distance below `window` (0: all of them). q [tokens, heads, d], k and v [tokens, kv_heads, d]
/// with heads a multiple of kv_heads, starts [documents + 1] int64 on the CPU, first 0, last tokens
/// -> [tokens, heads, d] in q's dtype. Dao et al. 2022, "FlashAttention", for the backward pass
/// from the logarithm of the sums.
ESPALIER_API at::Tensor document_attention(const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const at::Tensor& starts,
                                           double scale, std::int64_t window = 0);

/// Tokens of the longest document; `starts` as above, contiguous.
ESPALIER_API std::int64_t longest_document(const at::Tensor& starts);

}  // namespace espalier::ops
