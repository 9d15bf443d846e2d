#include <limits>

#include "launch.cuh"
#include "rotary.cuh"

namespace espalier::cuda {

int rotary(const RotaryShape& shape, const void* x, const float* cos, const float* sin, void* y,
           Stream stream) {
  const RotaryArguments arguments{shape.tokens,
                                  static_cast<int>(shape.heads),
                                  static_cast<int>(shape.head_dim),
                                  static_cast<int>(shape.half),
                                  shape.token_stride,
                                  shape.head_stride,
                                  shape.direction};
  return with_type(shape.type, [&]<class T>(T*) {
    const auto launch = [&]<bool Interleaved, int N>() {
      const std::int64_t groups = (shape.heads + kHeadsOfAThread - 1) / kHeadsOfAThread;
      const std::int64_t items =
          shape.tokens * groups * (shape.half / N + (shape.head_dim - 2 * shape.half) / N);
      if (items == 0) return static_cast<int>(cudaSuccess);
      if (items > std::numeric_limits<std::uint32_t>::max())
        return static_cast<int>(cudaErrorInvalidValue);
      rotary_kernel<Interleaved, N><<<grid_for(items), kBlock, 0, stream_of(stream)>>>(
          arguments, static_cast<const T*>(x), cos, sin, static_cast<T*>(y));
      return static_cast<int>(cudaGetLastError());
    };
    constexpr int kPack = kPackSize<T>;
    const bool packs = shape.half % kPack == 0 && shape.head_dim % kPack == 0 &&
                       shape.token_stride % kPack == 0 && shape.head_stride % kPack == 0 &&
                       aligned(x, y) && aligned(cos, sin);
    if (shape.interleaved) {
      return packs ? launch.template operator()<true, kPack>()
                   : launch.template operator()<true, 1>();
    }
    return packs ? launch.template operator()<false, kPack>()
                 : launch.template operator()<false, 1>();
  });
}

}  // namespace espalier::cuda
