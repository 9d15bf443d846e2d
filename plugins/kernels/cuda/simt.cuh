// What every kernel of this pack is written with: 16-bit floats as storage, 16-byte loads, and sums
// over a warp or a block. A kernel is ordinary CUDA; tests compile the same source for the CPU,
// with the names of CUDA from simt_on_cpu.cuh.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if !defined(__CUDACC__)
#include "simt_on_cpu.cuh"
#else
#include <cuda_fp16.h>
#endif

namespace espalier::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kBlock = 256;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;

/// Storage of 16 bits a value; arithmetic is float32 throughout.
struct Bf16 {
  std::uint16_t bits;
};
struct Fp16 {
  std::uint16_t bits;
};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(std::int8_t value) { return static_cast<float>(value); }
__device__ inline float to_float(Bf16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
__device__ inline float to_float(Fp16 value) {
#if defined(__CUDACC__)
  __half half;
  memcpy(&half, &value, sizeof half);
  return __half2float(half);
#else
  return half_to_float_on_cpu(value.bits);
#endif
}

/// Rounds to nearest, ties to even.
template <class T>
__device__ inline T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline Bf16 from_float<Bf16>(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<std::uint16_t>(bits >> 16 | 0x40U)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16)};
}
template <>
__device__ inline Fp16 from_float<Fp16>(float value) {
#if defined(__CUDACC__)
  const __half half = __float2half_rn(value);
  Fp16 result;
  memcpy(&result, &half, sizeof result);
  return result;
#else
  return {float_to_half_on_cpu(value)};
#endif
}

/// As values of T hold it.
template <class T>
__device__ inline float rounded(float value) {
  return to_float(from_float<T>(value));
}

/// The shared memory whose size the launch gives.
__device__ inline float* dynamic_shared() {
#if defined(__CUDACC__)
  extern __shared__ float memory[];
  return memory;
#else
  return static_cast<float*>(BlockOnCpu::current()->dynamic_shared());
#endif
}

/// N values that are loaded and stored at once.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
  T values[N];
};

/// Values of 16 bytes.
template <class T>
inline constexpr int kPackSize = 16 / sizeof(T);

template <int N, class T>
__device__ inline Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
/// N floats, which may be more than 16 bytes.
template <int N>
__device__ inline Pack<float, N> load_floats(const float* from) {
  constexpr int kStep = N < 4 ? N : 4;
  Pack<float, N> result;
  for (int i = 0; i < N; i += kStep) {
    const auto part = load<kStep>(from + i);
    for (int k = 0; k < kStep; ++k) result.values[i + k] = part.values[k];
  }
  return result;
}
template <int N, class T>
__device__ inline void store(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

/// Sum over the 32 threads of a warp, the same in each.
__device__ inline float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

/// Largest over the 32 threads of a warp, the same in each.
__device__ inline float warp_max(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

/// Sum over the `Threads` threads that share a row, the same in each: a warp, or a whole block.
/// `scratch` is shared memory of kBlock / kWarp floats; free for the next call when this returns.
template <int Threads>
__device__ inline float row_sum(float value, float* scratch) {
  value = warp_sum(value);
  if constexpr (Threads > kWarp) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = warp_sum(lane < Threads / kWarp ? scratch[lane] : 0.0F);
    __syncthreads();
  }
  return value;
}

/// Largest over the threads of a row; as row_sum.
template <int Threads>
__device__ inline float row_max(float value, float* scratch) {
  value = warp_max(value);
  if constexpr (Threads > kWarp) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = warp_max(scratch[lane % (Threads / kWarp)]);
    __syncthreads();
  }
  return value;
}

}  // namespace espalier::cuda
