#pragma once

#include <vector>

#include "espalier/ops/op.h"

namespace espalier::ops {

/// The reference of every op, in plain ATen: the definition that kernel packs are held against.
ESPALIER_API std::vector<OpImplementation> reference_implementations();

// One function for each op, beside its formulas.
OpImplementation rms_norm_reference();
OpImplementation rotary_reference();
OpImplementation gated_activation_reference();
OpImplementation cross_entropy_reference();
OpImplementation document_attention_reference();
OpImplementation grouped_linear_reference();
ESPALIER_API OpImplementation decode_linear_reference();
ESPALIER_API OpImplementation softmax_tile_reference();
OpImplementation low_rank_update_reference();
OpImplementation selective_scan_reference();

}  // namespace espalier::ops
