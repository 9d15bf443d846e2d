// Compiled for AVX-512 F, BW, DQ and VL.
#include "rows.h"

const espalier::cpu::Kernels espalier::cpu::avx512::kKernels = kernels_named("avx512");
