// Cross entropy of rows of logits with label smoothing e, z-loss and soft cap, as the reference op:
//   loss = lse - (1 - e) l_y - e mean(l) + z lse^2,   l = cap tanh(logits / cap)
//   d/dl = (1 + 2 z lse) softmax(l) - (1 - e) onehot - e / vocab
// A block a row. Memory-bound: logits are read once forward, and read and written once backward,
// which may be in place. Rows whose label is -100 are not read.
#pragma once

#include "simt.cuh"

namespace espalier::cuda {

inline constexpr std::int64_t kNoLabel = -100;

struct CrossEntropyArguments {
  std::int64_t vocab;
  float smoothing;
  float z_loss;
  float soft_cap;
};

__device__ inline float capped(float logit, float soft_cap) {
  return soft_cap > 0 ? soft_cap * tanhf(logit / soft_cap) : logit;
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock)
    cross_entropy_forward_kernel(CrossEntropyArguments a, const T* logits,
                                 const std::int64_t* labels, float* loss, float* lse) {
  __shared__ float scratch[kBlock / kWarp];
  const std::int64_t row = blockIdx.x;
  const std::int64_t label = labels[row];
  if (label == kNoLabel) {
    if (threadIdx.x == 0) {
      loss[row] = 0;
      lse[row] = 0;
    }
    return;
  }
  const T* values = logits + row * a.vocab;
  // Each thread keeps the largest value that it saw and the sum of exponentials relative to it.
  float largest = -INFINITY;
  float exponentials = 0;
  float total = 0;
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * N; c < a.vocab; c += kBlock * N) {
    const auto pack = load<N>(values + c);
    float v[N];
    float pack_largest = largest;
    for (int i = 0; i < N; ++i) {
      v[i] = capped(to_float(pack.values[i]), a.soft_cap);
      total += v[i];
      pack_largest = fmaxf(pack_largest, v[i]);
    }
    if (pack_largest > largest) {
      exponentials *= expf(largest - pack_largest);
      largest = pack_largest;
    }
    for (int i = 0; i < N; ++i) exponentials += expf(v[i] - largest);
  }
  const float row_largest = row_max<kBlock>(largest, scratch);
  exponentials *= largest == -INFINITY ? 0.0F : expf(largest - row_largest);
  const float sum = row_sum<kBlock>(exponentials, scratch);
  const float mean = row_sum<kBlock>(total, scratch) / static_cast<float>(a.vocab);
  if (threadIdx.x != 0) return;
  const float normaliser = row_largest + logf(sum);
  const float target = capped(to_float(values[label]), a.soft_cap);
  lse[row] = normaliser;
  loss[row] = normaliser - (1.0F - a.smoothing) * target - a.smoothing * mean +
              a.z_loss * normaliser * normaliser;
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock)
    cross_entropy_backward_kernel(CrossEntropyArguments a, const T* logits,
                                  const std::int64_t* labels, const float* lse, const float* scale,
                                  T* dlogits) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t label = labels[row];
  const bool ignored = label == kNoLabel;
  const float normaliser = lse[row];
  const float probability_factor = 1.0F + 2.0F * a.z_loss * normaliser;
  const float spread = a.smoothing / static_cast<float>(a.vocab);
  const T* values = logits + row * a.vocab;
  T* result = dlogits + row * a.vocab;
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * N; c < a.vocab; c += kBlock * N) {
    Pack<T, N> grads;
    if (ignored) {
      for (int i = 0; i < N; ++i) grads.values[i] = from_float<T>(0.0F);
      store<N>(result + c, grads);
      continue;
    }
    const auto pack = load<N>(values + c);
    for (int i = 0; i < N; ++i) {
      const float v = capped(to_float(pack.values[i]), a.soft_cap);
      float grad = probability_factor * expf(v - normaliser) - spread;
      if (c + i == label) grad -= 1.0F - a.smoothing;
      if (a.soft_cap > 0) grad *= 1.0F - (v / a.soft_cap) * (v / a.soft_cap);
      grads.values[i] = from_float<T>(grad * *scale);
    }
    store<N>(result + c, grads);
  }
}

}  // namespace espalier::cuda
