// The table of the kernels above, for the file that is compiled for an instruction set.
#pragma once

#include "attention.h"
#include "decode.h"
#include "low_rank.h"
#include "rows.h"

namespace espalier::cpu {
namespace {

constexpr Kernels kernels_named(const char* instructions) {
  return {
      instructions,       rms_norm,          rms_norm_backward,      rotary,       gated,
      gated_backward,     cross_entropy,     cross_entropy_backward, softmax_tile, decode_linear,
      low_rank_forward,   low_rank_backward, low_rank_sums,          kLanes,       attention,
      attention_backward, attention_scratch};
}

}  // namespace
}  // namespace espalier::cpu
