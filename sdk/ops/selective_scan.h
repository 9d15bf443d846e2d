#pragma once

#include <vector>

#include "espalier/ops/op.h"

namespace espalier::ops {

/// What a selective scan runs over. Heads h, channels of a head p, state n; group g = h * groups /
/// heads shares B and C.
struct ScanInputs {
  at::Tensor x;   ///< [tokens, heads, channels]
  at::Tensor dt;  ///< [tokens, heads], time steps, positive
  at::Tensor a;   ///< [heads, state] (Mamba) or [heads, 1] (Mamba-2: one decay a head), negative
  at::Tensor b;   ///< [tokens, groups, state]
  at::Tensor c;   ///< [tokens, groups, state]
  /// [documents, heads, channels, state]: where each document goes on; undefined: zeros. Has no
  /// gradient.
  at::Tensor initial;
};

struct ScanOutputs {
  at::Tensor y;       ///< [tokens, heads, channels] in x's dtype
  at::Tensor states;  ///< after each document, [documents, heads, channels, state] float32
};

/// The recurrence of a state space whose parameters depend on the input, document by document, in
/// float32:
///   s_t = exp(dt_t a) s_(t-1) + dt_t x_t b_t,   y_t = s_t c_t.
/// `document_starts` as in TokenLayout. On the CPU alone: another device throws
/// Error(kUnsupported). Between forward and backward one state every 64 tokens is kept, and those
/// in between are computed again. Gu and Dao 2023, "Mamba"; Dao and Gu 2024, "Transformers are
/// SSMs".
ESPALIER_API ScanOutputs selective_scan(const ScanInputs& inputs,
                                        const std::vector<std::int64_t>& document_starts);

}  // namespace espalier::ops
