#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace espalier {

/// Numbers as 8-bit codes with a scale for each block (Dettmers et al. 2022, "8-bit Optimizers via
/// Block-wise Quantization"; the same codes as bitsandbytes). The 256 values that a code stands for
/// lie closer together near zero: an exponent of a varying number of bits, then a fraction.
class BlockCode {
 public:
  /// `has_sign`: values in [-1, 1]; otherwise in [0, 1], with twice the fractions.
  explicit BlockCode(bool has_sign);

  /// codes [n] uint8 and scales [blocks] float32 -> [n] float32; `block` elements share a scale.
  at::Tensor decode(const at::Tensor& codes, const at::Tensor& scales, std::int64_t block) const;
  /// Replaces codes and scales by those of values [n] float32: the largest magnitude of each block,
  /// and the nearest code.
  void encode(const at::Tensor& values, std::int64_t block, const at::Tensor& codes,
              const at::Tensor& scales) const;

  /// [256] float32, rising.
  const at::Tensor& values() const { return values_; }

 private:
  at::Tensor values_;
  at::Tensor borders_;  ///< [255]: halfway between neighbours
};

}  // namespace espalier
