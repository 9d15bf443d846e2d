#pragma once

#include <cstdint>

namespace espalier::cpu {

/// Dtype of activations. Arithmetic is in float32 with either.
enum class Type { kFloat, kBf16 };

struct RmsNormArguments {
  Type type;
  Type weight_type;
  std::int64_t columns;
  std::int64_t row_stride;  ///< of x, in elements
  float epsilon;
  float offset;  ///< added to the weight
  const void* x;
  const void* weight;
  float* inverse;  ///< [rows] 1 / sqrt(mean(x^2) + epsilon): written forward, read backward
  void* y;         ///< forward
  const void* grad;
  void* grad_x;        ///< or nullptr
  float* grad_weight;  ///< [columns], added to; or nullptr
};

struct RotaryArguments {
  Type type;
  std::int64_t heads;
  std::int64_t width;  ///< of a head
  std::int64_t half;   ///< columns of cos and sin
  std::int64_t token_stride;
  std::int64_t head_stride;
  bool interleaved;
  float direction;  ///< -1 turns back
  const void* x;
  const float* cos;
  const float* sin;
  void* y;  ///< contiguous
};

struct GatedArguments {
  Type type;
  int activation;  ///< of ops::Activation
  std::int64_t columns;
  std::int64_t gate_stride;  ///< of rows
  std::int64_t up_stride;
  const void* gate;
  const void* up;
  void* y;  ///< contiguous, like all that follow
  const void* grad;
  void* grad_gate;
  void* grad_up;
};

struct CrossEntropyArguments {
  Type type;
  std::int64_t vocab;
  std::int64_t row_stride;
  float smoothing;
  float z_loss;
  float scale;  ///< gradient of the sum; backward
  const void* logits;
  const std::int64_t* labels;
  float* loss;         ///< [rows] forward
  float* log_sum_exp;  ///< [rows] written forward, read backward
  void* grad;          ///< [rows, vocab] backward; may be `logits`, which are contiguous then
};

struct SoftmaxTileArguments {
  Type type;
  std::int64_t columns;
  std::int64_t row_stride;  ///< of the logits
  const void* logits;
  void* values;          ///< [rows, columns]; may be `logits`, which are contiguous then
  const float* maximum;  ///< [rows] like all that follow
  const float* sum;
  float* new_maximum;
  float* new_sum;
  float* factor;
};

struct AttentionArguments {
  Type type;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t width;            ///< of a head
  std::int64_t q_token, q_head;  ///< strides
  std::int64_t k_token, k_head;
  std::int64_t v_token, v_head;
  const std::int64_t* starts;
  std::int64_t window;  ///< 0: none
  float scale;
  const void* q;
  const void* k;
  const void* v;
  void* output;        ///< [tokens, heads, width], written forward, read backward
  float* log_sum_exp;  ///< [tokens, heads], the same
  const void* grad;    ///< contiguous, like all that follow
  void* grad_q;
  void* grad_k;
  void* grad_v;
  float* scratch;  ///< of this call; its size is that of attention_scratch
};

enum class WeightType { kFloat, kBf16, kInt8 };

/// A row of this kernel is one of the weight.
struct DecodeArguments {
  Type type;  ///< of y
  WeightType weight_type;
  std::int64_t rows;  ///< of x
  std::int64_t in;
  std::int64_t out;
  const float* x;      ///< [rows, in]
  const void* weight;  ///< [out, in]
  const float* scale;  ///< [out] or nullptr
  const float* bias;   ///< [out] or nullptr
  void* y;             ///< [rows, out]
};

/// y = base + inner b with inner = x a^T, and back. What is [r, n] has rows padded to whole
/// vectors.
struct LowRankArguments {
  Type type;
  std::int64_t in;
  std::int64_t out;
  std::int64_t rank;
  std::int64_t x_row, base_row, y_row, grad_row;  ///< strides
  const float* a;                                 ///< [rank, in]
  const float* b;                                 ///< [rank, out], with the scale in it
  const void* x;                                  ///< [rows, in], forward
  const void* base;                               ///< [rows, out], forward
  void* y;                                        ///< [rows, out]; may be `base`
  float* inner;                                   ///< [rows, rank], written forward
  const void* grad;                               ///< [rows, out], backward
  float* grad_inner;                              ///< [rows, rank], written backward
  void* grad_x;                                   ///< [rows, in] dense, or nullptr
};

/// to = scale inner^T x, [rank, columns] or transposed, dense; a sum over rows, in their order.
struct LowRankSums {
  Type type;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t rank;
  std::int64_t x_row;
  bool transposed;
  float scale;
  const float* inner;
  const void* x;
  void* to;
};

/// The kernels of one instruction set, each over the rows (tokens) `begin` to `end`.
struct Kernels {
  const char* instructions;
  void (*rms_norm)(const RmsNormArguments&, std::int64_t begin, std::int64_t end);
  void (*rms_norm_backward)(const RmsNormArguments&, std::int64_t begin, std::int64_t end);
  void (*rotary)(const RotaryArguments&, std::int64_t begin, std::int64_t end);
  void (*gated)(const GatedArguments&, std::int64_t begin, std::int64_t end);
  void (*gated_backward)(const GatedArguments&, std::int64_t begin, std::int64_t end);
  void (*cross_entropy)(const CrossEntropyArguments&, std::int64_t begin, std::int64_t end);
  void (*cross_entropy_backward)(const CrossEntropyArguments&, std::int64_t begin,
                                 std::int64_t end);
  void (*softmax_tile)(const SoftmaxTileArguments&, std::int64_t begin, std::int64_t end);
  void (*decode_linear)(const DecodeArguments&, std::int64_t begin, std::int64_t end);
  void (*low_rank_forward)(const LowRankArguments&, std::int64_t begin, std::int64_t end);
  void (*low_rank_backward)(const LowRankArguments&, std::int64_t begin, std::int64_t end);
  /// Over vectors of columns, of which there are `columns` by `lanes`, rounded up.
  void (*low_rank_sums)(const LowRankSums&, std::int64_t begin, std::int64_t end);
  std::int64_t lanes;
  // Over tasks: document by document, its key heads.
  void (*attention)(const AttentionArguments&, std::int64_t begin, std::int64_t end);
  void (*attention_backward)(const AttentionArguments&, std::int64_t begin, std::int64_t end);
  std::int64_t (*attention_scratch)(std::int64_t length, std::int64_t width);
};

namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

}  // namespace espalier::cpu
