#include "espalier/ops/reference.h"

namespace espalier::ops {

std::vector<OpImplementation> reference_implementations() {
  return {rms_norm_reference(),           rotary_reference(),
          gated_activation_reference(),   cross_entropy_reference(),
          document_attention_reference(), grouped_linear_reference(),
          selective_scan_reference(),     decode_linear_reference(),
          low_rank_update_reference(),    softmax_tile_reference()};
}

}  // namespace espalier::ops
