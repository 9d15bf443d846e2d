// The launchers of this pack as plain C++: raw pointers to device memory, sizes, and the stream.
// Each returns a cudaError_t as an int, 0 for success; none waits for the device.
#pragma once

#include <cstdint>

namespace espalier::cuda {

enum class Type { kFloat, kBf16, kFp16 };

/// A cudaStream_t.
using Stream = void*;

/// rows x columns of type T; weight [columns] of the type `weight_type`; inverse [rows] float32.
struct RmsNormShape {
  Type type;
  Type weight_type;
  std::int64_t rows;
  std::int64_t columns;
  float eps;
  float offset;  ///< added to the weight
};
int rms_norm_forward(const RmsNormShape& shape, const void* x, const void* weight, void* y,
                     float* inverse, Stream stream);
/// `dx` or `partial` may be null. `partial` is float32 [partial_rows, columns]: sums of the
/// weight's gradient that remain to be added up.
int rms_norm_backward(const RmsNormShape& shape, const void* x, const void* weight,
                      const float* inverse, const void* dy, void* dx, float* partial,
                      std::int64_t partial_rows, Stream stream);
/// Most columns that the backward pass takes: a row of float32 sums has to fit in shared memory.
inline constexpr std::int64_t kRmsNormMaximumColumns = 12000;

/// x [tokens, heads, head_dim] with the last dimension dense and strides in values; cos and sin
/// [tokens, half] float32; y [tokens, heads, head_dim] dense.
struct RotaryShape {
  Type type;
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t head_dim;
  std::int64_t half;
  std::int64_t token_stride;
  std::int64_t head_stride;
  bool interleaved;
  float direction;  ///< 1 turns forward, -1 back
};
int rotary(const RotaryShape& shape, const void* x, const float* cos, const float* sin, void* y,
           Stream stream);

/// Values as in espalier::ops::Activation.
int gated_activation_forward(Type type, int activation, std::int64_t count, const void* gate,
                             const void* up, void* y, Stream stream);
int gated_activation_backward(Type type, int activation, std::int64_t count, const void* gate,
                              const void* up, const void* dy, void* dgate, void* dup,
                              Stream stream);

/// logits [rows, vocab] dense, labels [rows] int64 with -100 ignored.
struct CrossEntropyShape {
  Type type;
  std::int64_t rows;
  std::int64_t vocab;
  float smoothing;
  float z_loss;
  float soft_cap;
};
/// loss and lse [rows] float32; loss is 0 where the label is ignored.
int cross_entropy_forward(const CrossEntropyShape& shape, const void* logits,
                          const std::int64_t* labels, float* loss, float* lse, Stream stream);
/// `scale` is one float32 on the device, the gradient of the summed loss; dlogits may be logits.
int cross_entropy_backward(const CrossEntropyShape& shape, const void* logits,
                           const std::int64_t* labels, const float* lse, const float* scale,
                           void* dlogits, Stream stream);

/// Dtype of the weight of a linear of few rows.
enum class DecodeWeight { kAsValues, kFloat, kInt8 };

/// x [rows, in], weight [out, in], scale and bias [out] float32 or null; y [rows, out] of x's type.
struct DecodeShape {
  Type type;
  DecodeWeight weight;
  std::int64_t rows;
  std::int64_t in;
  std::int64_t out;
};
int decode_linear(const DecodeShape& shape, const void* x, const void* weight, const float* scale,
                  const float* bias, void* y, Stream stream);

}  // namespace espalier::cuda
