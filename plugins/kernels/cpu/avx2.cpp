// Compiled for AVX2 and FMA.
#include "table.h"

const espalier::cpu::Kernels espalier::cpu::avx2::kKernels = kernels_named("avx2");
