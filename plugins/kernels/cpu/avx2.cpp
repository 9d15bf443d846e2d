// Compiled for AVX2 and FMA.
#include "table.h"

namespace espalier::cpu::avx2 {

const Kernels kKernels = kernels_named("avx2");

}  // namespace espalier::cpu::avx2
