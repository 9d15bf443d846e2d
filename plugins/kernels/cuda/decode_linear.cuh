// Linear layers of few rows, as when a text is continued: y = x (scale w)^T + bias. Memory-bound:
// the weight is read once, the rows of x come from the cache. A warp takes kWeightRows rows of the
// weight, so that what it loads of x serves as many products.
#pragma once

#include "simt.cuh"

namespace espalier::cuda {

inline constexpr int kWeightRows = 2;
inline constexpr int kDecodedRows = 4;  // of x at a time, whose sums are kept in registers

struct DecodeArguments {
  std::int64_t in;
  std::int64_t out;
  const float* scale;  ///< [out] or nullptr
  const float* bias;   ///< [out] or nullptr
};

/// `Rows` rows of x [Rows, in] and of y [Rows, out]; w [out, in]. Sums run in the same order
/// whatever `Rows` is.
template <int Rows, int N, class T, class W>
__global__ void __launch_bounds__(kBlock)
    decode_linear_kernel(DecodeArguments a, const T* x, const W* weight, T* y) {
  const std::int64_t warp = (static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x) / kWarp;
  const std::int64_t first = warp * kWeightRows;
  if (first >= a.out) return;
  const std::int64_t lane = threadIdx.x % kWarp;
  const int count = a.out - first < kWeightRows ? 1 : kWeightRows;
  float sums[Rows][kWeightRows] = {};
#pragma unroll 4
  for (std::int64_t c = lane * N; c < a.in; c += kWarp * N) {
    Pack<W, N> weights[kWeightRows];
    for (int k = 0; k < kWeightRows; ++k)
      weights[k] = load<N>(weight + (first + (k < count ? k : 0)) * a.in + c);
    for (int r = 0; r < Rows; ++r) {
      const auto values = load<N>(x + r * a.in + c);
      for (int k = 0; k < kWeightRows; ++k) {
        for (int i = 0; i < N; ++i)
          sums[r][k] += to_float(values.values[i]) * to_float(weights[k].values[i]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int k = 0; k < kWeightRows; ++k) {
      float total = warp_sum(sums[r][k]);
      if (lane != 0 || k >= count) continue;
      const std::int64_t j = first + k;
      if (a.scale != nullptr) total *= a.scale[j];
      if (a.bias != nullptr) total += a.bias[j];
      y[r * a.out + j] = from_float<T>(total);
    }
  }
}

}  // namespace espalier::cuda
