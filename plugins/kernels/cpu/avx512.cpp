// Compiled for AVX-512 F, BW, DQ and VL.
#include "table.h"

const espalier::cpu::Kernels espalier::cpu::avx512::kKernels = kernels_named("avx512");
