#include "cross_entropy.cuh"
#include "launch.cuh"

namespace espalier::cuda {
namespace {

CrossEntropyArguments arguments(const CrossEntropyShape& shape) {
  return {shape.vocab, shape.smoothing, shape.z_loss, shape.soft_cap};
}

}  // namespace

int cross_entropy_forward(const CrossEntropyShape& shape, const void* logits,
                          const std::int64_t* labels, float* loss, float* lse, Stream stream) {
  if (shape.rows == 0) return cudaSuccess;
  return with_type(shape.type, [&]<class T>(T*) {
    const auto launch = [&]<int N>() {
      cross_entropy_forward_kernel<N>
          <<<static_cast<unsigned>(shape.rows), kBlock, 0, stream_of(stream)>>>(
              arguments(shape), static_cast<const T*>(logits), labels, loss, lse);
      return static_cast<int>(cudaGetLastError());
    };
    constexpr int kPack = kPackSize<T>;
    return shape.vocab % kPack == 0 && aligned(logits) ? launch.template operator()<kPack>()
                                                       : launch.template operator()<1>();
  });
}

int cross_entropy_backward(const CrossEntropyShape& shape, const void* logits,
                           const std::int64_t* labels, const float* lse, const float* scale,
                           void* dlogits, Stream stream) {
  if (shape.rows == 0) return cudaSuccess;
  return with_type(shape.type, [&]<class T>(T*) {
    const auto launch = [&]<int N>() {
      cross_entropy_backward_kernel<N>
          <<<static_cast<unsigned>(shape.rows), kBlock, 0, stream_of(stream)>>>(
              arguments(shape), static_cast<const T*>(logits), labels, lse, scale,
              static_cast<T*>(dlogits));
      return static_cast<int>(cudaGetLastError());
    };
    constexpr int kPack = kPackSize<T>;
    return shape.vocab % kPack == 0 && aligned(logits, dlogits)
               ? launch.template operator()<kPack>()
               : launch.template operator()<1>();
  });
}

}  // namespace espalier::cuda
