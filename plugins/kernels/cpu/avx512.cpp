// Compiled for AVX-512 F, BW, DQ and VL.
#include "table.h"

namespace espalier::cpu::avx512 {

const Kernels kKernels = kernels_named("avx512");

}  // namespace espalier::cpu::avx512
