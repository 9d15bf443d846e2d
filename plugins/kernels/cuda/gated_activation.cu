#include "gated_activation.cuh"
#include "launch.cuh"

namespace espalier::cuda {

int gated_activation_forward(Type type, int activation, std::int64_t count, const void* gate,
                             const void* up, void* y, Stream stream) {
  if (count == 0) return cudaSuccess;
  return with_type(type, [&]<class T>(T*) {
    const auto launch = [&]<int N>() {
      gated_activation_forward_kernel<N><<<grid_for(count / N), kBlock, 0, stream_of(stream)>>>(
          static_cast<Gate>(activation), count, static_cast<const T*>(gate),
          static_cast<const T*>(up), static_cast<T*>(y));
      return static_cast<int>(cudaGetLastError());
    };
    constexpr int kPack = kPackSize<T>;
    return count % kPack == 0 && aligned(gate, up, y) ? launch.template operator()<kPack>()
                                                      : launch.template operator()<1>();
  });
}

int gated_activation_backward(Type type, int activation, std::int64_t count, const void* gate,
                              const void* up, const void* dy, void* dgate, void* dup,
                              Stream stream) {
  if (count == 0) return cudaSuccess;
  return with_type(type, [&]<class T>(T*) {
    const auto launch = [&]<int N>() {
      gated_activation_backward_kernel<N><<<grid_for(count / N), kBlock, 0, stream_of(stream)>>>(
          static_cast<Gate>(activation), count, static_cast<const T*>(gate),
          static_cast<const T*>(up), static_cast<const T*>(dy), static_cast<T*>(dgate),
          static_cast<T*>(dup));
      return static_cast<int>(cudaGetLastError());
    };
    constexpr int kPack = kPackSize<T>;
    return count % kPack == 0 && aligned(gate, up, dy, dgate, dup)
               ? launch.template operator()<kPack>()
               : launch.template operator()<1>();
  });
}

}  // namespace espalier::cuda
