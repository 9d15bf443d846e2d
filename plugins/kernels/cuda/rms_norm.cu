#include "launch.cuh"
#include "rms_norm.cuh"

namespace espalier::cuda {
namespace {

RmsNormArguments arguments(const RmsNormShape& shape) {
  return {shape.rows, static_cast<int>(shape.columns), shape.eps, shape.offset};
}

/// Calls `function(value pointer, weight pointer)`; the weight has the values' type or float32.
template <class Function>
int with_types(const RmsNormShape& shape, const Function& function) {
  return with_type(shape.type, [&](auto* value) {
    if (shape.weight_type == shape.type) return function(value, value);
    if (shape.weight_type == Type::kFloat) return function(value, static_cast<float*>(nullptr));
    return static_cast<int>(cudaErrorInvalidValue);
  });
}

/// Calls `function` with the pack size and the threads of a row as template arguments.
template <class T, class Function>
int with_shape(const RmsNormShape& shape, bool packs, const Function& function) {
  constexpr int kPack = kPackSize<T>;
  const bool vector = packs && shape.columns % kPack == 0;
  if (shape.columns <= kWarpRow) {
    return vector ? function.template operator()<kPack, kWarp>()
                  : function.template operator()<1, kWarp>();
  }
  return vector ? function.template operator()<kPack, kBlock>()
                : function.template operator()<1, kBlock>();
}

}  // namespace

int rms_norm_forward(const RmsNormShape& shape, const void* x, const void* weight, void* y,
                     float* inverse, Stream stream) {
  if (shape.rows == 0) return cudaSuccess;
  return with_types(shape, [&]<class T, class W>(T*, W*) {
    const auto launch = [&]<int N, int Threads>() {
      constexpr std::int64_t kRows = kBlock / Threads;
      const auto blocks = static_cast<unsigned>((shape.rows + kRows - 1) / kRows);
      rms_norm_forward_kernel<N, Threads><<<blocks, kBlock, 0, stream_of(stream)>>>(
          arguments(shape), static_cast<const T*>(x), static_cast<const W*>(weight),
          static_cast<T*>(y), inverse);
      return static_cast<int>(cudaGetLastError());
    };
    return with_shape<T>(shape, aligned(x, y, weight), launch);
  });
}

int rms_norm_backward(const RmsNormShape& shape, const void* x, const void* weight,
                      const float* inverse, const void* dy, void* dx, float* partial,
                      std::int64_t partial_rows, Stream stream) {
  if (shape.rows == 0) return cudaSuccess;
  return with_types(shape, [&]<class T, class W>(T*, W*) {
    const auto launch = [&]<int N, int Threads>() {
      const std::size_t bytes =
          static_cast<std::size_t>(shape.columns) * (kBlock / Threads) * sizeof(float);
      rms_norm_backward_kernel<N, Threads>
          <<<static_cast<unsigned>(partial_rows), kBlock, bytes, stream_of(stream)>>>(
              arguments(shape), static_cast<const T*>(x), static_cast<const W*>(weight), inverse,
              static_cast<const T*>(dy), static_cast<T*>(dx), partial);
      return static_cast<int>(cudaGetLastError());
    };
    return with_shape<T>(shape, aligned(x, dy, weight) && aligned(dx), launch);
  });
}

}  // namespace espalier::cuda
