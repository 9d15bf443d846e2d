// Root mean square norm: y = x r (w + offset), r = 1 / sqrt(mean(x^2) + eps). Zhang and Sennrich
// 2019. Memory-bound: the forward pass reads x and writes y, the backward pass reads x and dy and
// writes dx. What a thread reads of a row stays in registers for the second pass over it, up to
// kCached packs (8,192 columns of 16 bits); beyond that it is read again, from the cache. Rows of
// up to kWarpRow columns are handled by a warp each, longer ones by a block.
#pragma once

#include "simt.cuh"

namespace espalier::cuda {

inline constexpr int kWarpRow = 1024;
inline constexpr int kCached = 4;

struct RmsNormArguments {
  std::int64_t rows;
  int columns;
  float eps;
  float offset;
};

/// The packs that a thread reads of one row: number k begins at column (lane + k Threads) N. The
/// first kCached are loaded together and kept.
template <int N, int Threads, class T>
struct RowOfPacks {
  const T* row;
  Pack<T, N> kept[kCached];

  __device__ RowOfPacks(const T* start, int lane, int columns) : row(start) {
    for (int k = 0; k < kCached; ++k) {
      const int c = (lane + k * Threads) * N;
      if (c < columns) kept[k] = load<N>(row + c);
    }
  }
};

/// Calls `function(column, pack number)` for the packs of a thread, with a constant number for
/// those that are kept and kCached for the others.
template <int N, int Threads, class Function>
__device__ inline void for_each_pack(int lane, int columns, const Function& function) {
  for (int k = 0; k < kCached; ++k) {
    const int c = (lane + k * Threads) * N;
    if (c < columns) function(c, k);
  }
  for (int c = (lane + kCached * Threads) * N; c < columns; c += Threads * N) function(c, kCached);
}

template <int N, int Threads, class T, class W>
__global__ void __launch_bounds__(kBlock)
    rms_norm_forward_kernel(RmsNormArguments a, const T* x, const W* weight, T* y, float* inverse) {
  __shared__ float scratch[kBlock / kWarp];
  const int lane = static_cast<int>(threadIdx.x) % Threads;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kBlock / Threads) + threadIdx.x / Threads;
  if (row >= a.rows) return;  // whole warps: a block of one row never gets here
  const RowOfPacks<N, Threads, T> values(x + row * a.columns, lane, a.columns);
  float squares = 0;
  for_each_pack<N, Threads>(lane, a.columns, [&](int c, int k) {
    const Pack<T, N> pack = k < kCached ? values.kept[k] : load<N>(values.row + c);
    for (int i = 0; i < N; ++i) {
      const float v = to_float(pack.values[i]);
      squares += v * v;
    }
  });
  const float mean = row_sum<Threads>(squares, scratch) / static_cast<float>(a.columns);
  const float r = 1.0F / sqrtf(mean + a.eps);
  if (lane == 0) inverse[row] = r;
  for_each_pack<N, Threads>(lane, a.columns, [&](int c, int k) {
    const Pack<T, N> pack = k < kCached ? values.kept[k] : load<N>(values.row + c);
    const auto weights = load<N>(weight + c);
    Pack<T, N> result;
    for (int i = 0; i < N; ++i) {
      const float n = to_float(pack.values[i]) * r;
      result.values[i] = from_float<T>((a.offset == 0 ? rounded<T>(n) : n) *
                                       (to_float(weights.values[i]) + a.offset));
    }
    store<N>(y + row * a.columns + c, result);
  });
}

/// With n = x r and g = dy (w + offset): dx = r (g - n mean(g n)); the weight's gradient is the sum
/// over rows of dy n. Each block takes rows in turn and keeps that sum in shared memory
/// (`sums`: columns floats for each row that a block handles at a time), so that nothing is added
/// atomically and the result does not depend on the order of blocks. There, value i of the pack at
/// column c lies at i columns / N + c / N: neighbours of a warp in neighbouring banks.
template <int N, int Threads, class T, class W>
__global__ void __launch_bounds__(kBlock)
    rms_norm_backward_kernel(RmsNormArguments a, const T* x, const W* weight, const float* inverse,
                             const T* dy, T* dx, float* partial) {
  constexpr int kRows = kBlock / Threads;
  __shared__ float scratch[kBlock / kWarp];
  float* const sums = dynamic_shared();
  const int lane = static_cast<int>(threadIdx.x) % Threads;
  const int packs = a.columns / N;
  float* const own_sums = sums + static_cast<int>(threadIdx.x) / Threads * a.columns;
  if (partial != nullptr) {
    for (int c = lane; c < a.columns; c += Threads) own_sums[c] = 0;
    __syncthreads();
  }
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRows; first < a.rows;
       first += static_cast<std::int64_t>(gridDim.x) * kRows) {
    const std::int64_t row = first + threadIdx.x / Threads;
    if (row >= a.rows) break;
    const std::int64_t start = row * a.columns;
    const RowOfPacks<N, Threads, T> values(x + start, lane, a.columns);
    const RowOfPacks<N, Threads, T> grads(dy + start, lane, a.columns);
    const float r = inverse[row];
    float product = 0;
    for_each_pack<N, Threads>(lane, a.columns, [&](int c, int k) {
      const Pack<T, N> pack = k < kCached ? values.kept[k] : load<N>(values.row + c);
      const Pack<T, N> grad_pack = k < kCached ? grads.kept[k] : load<N>(grads.row + c);
      const auto weights = load<N>(weight + c);
      for (int i = 0; i < N; ++i) {
        const float n = to_float(pack.values[i]) * r;
        const float grad = to_float(grad_pack.values[i]);
        product += grad * (to_float(weights.values[i]) + a.offset) * n;
        if (partial != nullptr) own_sums[i * packs + c / N] += grad * n;
      }
    });
    if (dx == nullptr) continue;
    const float mean = row_sum<Threads>(product, scratch) / static_cast<float>(a.columns);
    for_each_pack<N, Threads>(lane, a.columns, [&](int c, int k) {
      const Pack<T, N> pack = k < kCached ? values.kept[k] : load<N>(values.row + c);
      const Pack<T, N> grad_pack = k < kCached ? grads.kept[k] : load<N>(grads.row + c);
      const auto weights = load<N>(weight + c);
      Pack<T, N> result;
      for (int i = 0; i < N; ++i) {
        const float n = to_float(pack.values[i]) * r;
        const float g = to_float(grad_pack.values[i]) * (to_float(weights.values[i]) + a.offset);
        result.values[i] = from_float<T>(r * (g - n * mean));
      }
      store<N>(dx + start + c, result);
    });
  }
  if (partial == nullptr) return;
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < a.columns; c += kBlock) {
    float sum = 0;
    for (int k = 0; k < kRows; ++k) sum += sums[k * a.columns + c % N * packs + c / N];
    partial[static_cast<std::int64_t>(blockIdx.x) * a.columns + c] = sum;
  }
}

}  // namespace espalier::cuda
