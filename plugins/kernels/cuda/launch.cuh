// From the types of a call to an instantiated kernel.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels.h"
#include "simt.cuh"

namespace espalier::cuda {

inline cudaStream_t stream_of(Stream stream) { return static_cast<cudaStream_t>(stream); }

/// True when every pointer may be read 16 bytes at a time.
template <class... Pointers>
bool aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

/// Calls `function` with a null pointer of the storage type.
template <class Function>
int with_type(Type type, const Function& function) {
  switch (type) {
    case Type::kFloat: return function(static_cast<float*>(nullptr));
    case Type::kBf16: return function(static_cast<Bf16*>(nullptr));
    case Type::kFp16: return function(static_cast<Fp16*>(nullptr));
  }
  return cudaErrorInvalidValue;
}

/// Blocks for `items` threads in a loop over the grid: enough to fill any chip, not more.
inline unsigned grid_for(std::int64_t items) {
  constexpr std::int64_t kMaximumBlocks = 1 << 16;
  return static_cast<unsigned>(std::min((items + kBlock - 1) / kBlock, kMaximumBlocks));
}

}  // namespace espalier::cuda
