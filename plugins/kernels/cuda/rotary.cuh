// Rotary position embedding of q or k: each pair of values is turned by its position's angle (Su et
// al. 2021). The backward pass turns back. Memory-bound: x read and y written once; the angles of a
// token are shared by its heads and come from the cache. x may be a part of a fused projection.
#pragma once

#include "simt.cuh"

namespace espalier::cuda {

struct RotaryArguments {
  std::int64_t tokens;
  int heads;
  int head_dim;
  int half;  ///< pairs that are turned; values past 2 * half are copied
  std::int64_t token_stride;
  std::int64_t head_stride;
  float direction;
};

inline constexpr int kHeadsOfAThread = 4;

/// Turns N pairs of one head. Interleaved, the 2 N values hold pair k at 2 k and 2 k + 1.
template <bool Interleaved, int N, class T>
__device__ inline void turn(Pack<T, N>& low, Pack<T, N>& high, const Pack<float, N>& cos,
                            const Pack<float, N>& sin, float direction) {
  for (int k = 0; k < N; ++k) {
    const int second = 2 * k + 1;
    T& a = !Interleaved ? low.values[k] : 2 * k < N ? low.values[2 * k] : high.values[2 * k - N];
    T& b = !Interleaved ? high.values[k]
           : second < N ? low.values[second]
                        : high.values[second - N];
    const float c = rounded<T>(cos.values[k]);
    const float s = rounded<T>(sin.values[k]) * direction;
    const float u = to_float(a);
    const float v = to_float(b);
    a = from_float<T>(rounded<T>(u * c) - rounded<T>(v * s));
    b = from_float<T>(rounded<T>(v * c) + rounded<T>(u * s));
  }
}

/// A thread handles N pairs, or N values that are copied, at the same place of kHeadsOfAThread
/// heads of one token: their angles are read once.
template <bool Interleaved, int N, class T>
__global__ void __launch_bounds__(kBlock)
    rotary_kernel(RotaryArguments a, const T* x, const float* cos, const float* sin, T* y) {
  const unsigned turned = static_cast<unsigned>(a.half / N);
  const unsigned items = turned + static_cast<unsigned>((a.head_dim - 2 * a.half) / N);
  const unsigned groups = (static_cast<unsigned>(a.heads) + kHeadsOfAThread - 1) / kHeadsOfAThread;
  const std::int64_t total = a.tokens * groups * items;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    const unsigned flat = static_cast<unsigned>(i);  // the launcher refuses more than 2^32
    const unsigned item = flat % items;
    const unsigned first_head = flat / items % groups * kHeadsOfAThread;
    const std::int64_t token = flat / items / groups;
    const T* from = x + token * a.token_stride + first_head * a.head_stride;
    T* to = y + (token * a.heads + first_head) * a.head_dim;
    const int heads = a.heads - static_cast<int>(first_head);
    if (item >= turned) {
      const unsigned c = 2 * static_cast<unsigned>(a.half) + (item - turned) * N;
      for (int h = 0; h < kHeadsOfAThread; ++h) {
        if (h < heads) store<N>(to + h * a.head_dim + c, load<N>(from + h * a.head_stride + c));
      }
      continue;
    }
    const unsigned j = item * N;
    const unsigned first = Interleaved ? 2 * j : j;
    const unsigned second = Interleaved ? 2 * j + N : static_cast<unsigned>(a.half) + j;
    const auto c = load_floats<N>(cos + token * a.half + j);
    const auto s = load_floats<N>(sin + token * a.half + j);
    Pack<T, N> low[kHeadsOfAThread];
    Pack<T, N> high[kHeadsOfAThread];
    for (int h = 0; h < kHeadsOfAThread; ++h) {
      if (h >= heads) continue;
      low[h] = load<N>(from + h * a.head_stride + first);
      high[h] = load<N>(from + h * a.head_stride + second);
    }
    for (int h = 0; h < kHeadsOfAThread; ++h) {
      if (h >= heads) continue;
      turn<Interleaved>(low[h], high[h], c, s, a.direction);
      store<N>(to + h * a.head_dim + first, low[h]);
      store<N>(to + h * a.head_dim + second, high[h]);
    }
  }
}

}  // namespace espalier::cuda
