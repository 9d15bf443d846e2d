#include "decode_linear.cuh"
#include "launch.cuh"

namespace espalier::cuda {
namespace {

/// Calls `function(value pointer, weight pointer)`.
template <class Function>
int with_types(const DecodeShape& shape, const Function& function) {
  return with_type(shape.type, [&](auto* value) {
    switch (shape.weight) {
      case DecodeWeight::kAsValues: return function(value, value);
      case DecodeWeight::kFloat: return function(value, static_cast<float*>(nullptr));
      case DecodeWeight::kInt8: return function(value, static_cast<std::int8_t*>(nullptr));
    }
    return static_cast<int>(cudaErrorInvalidValue);
  });
}

}  // namespace

int decode_linear(const DecodeShape& shape, const void* x, const void* weight, const float* scale,
                  const float* bias, void* y, Stream stream) {
  if (shape.rows == 0 || shape.out == 0) return cudaSuccess;
  return with_types(shape, [&]<class T, class W>(T*, W*) {
    const DecodeArguments arguments{shape.in, shape.out, scale, bias};
    constexpr std::int64_t kRowsOfABlock = kBlock / kWarp * kWeightRows;
    const auto blocks = static_cast<unsigned>((shape.out + kRowsOfABlock - 1) / kRowsOfABlock);
    const auto launch = [&]<int Rows, int N>(std::int64_t first) {
      decode_linear_kernel<Rows, N><<<blocks, kBlock, 0, stream_of(stream)>>>(
          arguments, static_cast<const T*>(x) + first * shape.in, static_cast<const W*>(weight),
          static_cast<T*>(y) + first * shape.out);
    };
    constexpr int kPack = kPackSize<W>;
    const bool packs = shape.in % kPack == 0 && aligned(x, weight);
    const auto launch_rows = [&]<int Rows>(std::int64_t first) {
      if (packs)
        launch.template operator()<Rows, kPack>(first);
      else
        launch.template operator()<Rows, 1>(first);
    };
    // In twos where that is enough: fewer kernels to compile.
    for (std::int64_t first = 0; first < shape.rows;) {
      const std::int64_t left = shape.rows - first;
      if (left >= kDecodedRows) {
        launch_rows.template operator()<kDecodedRows>(first);
        first += kDecodedRows;
      } else if (left >= 2) {
        launch_rows.template operator()<2>(first);
        first += 2;
      } else {
        launch_rows.template operator()<1>(first);
        first += 1;
      }
    }
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace espalier::cuda
