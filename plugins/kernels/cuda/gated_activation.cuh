// activation(gate) * up, elementwise (Shazeer 2020), and its backward pass, which computes the
// activation again instead of keeping it. Memory-bound: 3 values moved forward, 5 backward.
#pragma once

#include "simt.cuh"

namespace espalier::cuda {

/// In the order of espalier::ops::Activation.
enum class Gate { kSilu, kGelu, kGeluTanh, kRelu, kReluSquared, kQuickGelu };

struct ValueAndSlope {
  float value;
  float slope;
};

__device__ inline ValueAndSlope activate(Gate kind, float x) {
  switch (kind) {
    case Gate::kSilu: {
      const float s = 1.0F / (1.0F + expf(-x));
      return {x * s, s * (1.0F + x * (1.0F - s))};
    }
    case Gate::kGelu: {
      const float cdf = 0.5F * (1.0F + erff(x * 0.70710678F));
      return {x * cdf, cdf + x * 0.39894228F * expf(-0.5F * x * x)};
    }
    case Gate::kGeluTanh: {
      constexpr float kScale = 0.79788456F;  // sqrt(2 / pi)
      const float t = tanhf(kScale * (x + 0.044715F * x * x * x));
      const float inner = kScale * (1.0F + 3.0F * 0.044715F * x * x);
      return {0.5F * x * (1.0F + t), 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * inner};
    }
    case Gate::kRelu: return {fmaxf(x, 0.0F), x > 0 ? 1.0F : 0.0F};
    case Gate::kReluSquared: {
      const float positive = fmaxf(x, 0.0F);
      return {positive * positive, 2.0F * positive};
    }
    case Gate::kQuickGelu: {
      constexpr float kSlope = 1.702F;
      const float s = 1.0F / (1.0F + expf(-kSlope * x));
      return {x * s, s + x * s * (1.0F - s) * kSlope};
    }
  }
  return {0, 0};
}

/// First value of this thread's packs; the next is `stride` further.
template <int N>
__device__ inline std::int64_t first_value() {
  return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
}
template <int N>
__device__ inline std::int64_t value_stride() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x * N;
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock)
    gated_activation_forward_kernel(Gate kind, std::int64_t count, const T* gate, const T* up,
                                    T* y) {
  for (std::int64_t i = first_value<N>(); i < count; i += value_stride<N>()) {
    const auto gates = load<N>(gate + i);
    const auto ups = load<N>(up + i);
    Pack<T, N> result;
    for (int k = 0; k < N; ++k) {
      const float value = activate(kind, to_float(gates.values[k])).value;
      result.values[k] = from_float<T>(rounded<T>(value) * to_float(ups.values[k]));
    }
    store<N>(y + i, result);
  }
}

template <int N, class T>
__global__ void __launch_bounds__(kBlock)
    gated_activation_backward_kernel(Gate kind, std::int64_t count, const T* gate, const T* up,
                                     const T* dy, T* dgate, T* dup) {
  for (std::int64_t i = first_value<N>(); i < count; i += value_stride<N>()) {
    const auto gates = load<N>(gate + i);
    const auto ups = load<N>(up + i);
    const auto grads = load<N>(dy + i);
    Pack<T, N> for_gate;
    Pack<T, N> for_up;
    for (int k = 0; k < N; ++k) {
      const ValueAndSlope a = activate(kind, to_float(gates.values[k]));
      const float grad = to_float(grads.values[k]);
      for_gate.values[k] = from_float<T>(grad * to_float(ups.values[k]) * a.slope);
      for_up.values[k] = from_float<T>(grad * a.value);
    }
    store<N>(dgate + i, for_gate);
    store<N>(dup + i, for_up);
  }
}

}  // namespace espalier::cuda
