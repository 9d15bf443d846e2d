#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace espalier {

/// What multiplies matrices of a dtype: "mkl", "onednn" for bfloat16 and float16 on a CPU, "cublas"
/// on a GPU.
std::string gemm_provider(at::Device device, at::ScalarType dtype);

/// A product of two matrices, tried out.
struct GemmCheck {
  bool exact = false;   ///< all looked at are what integers give
  double rate = 0;      ///< GFLOP/s, the best of a few
  double expected = 0;  ///< what a CPU with these instructions and as many threads reaches easily

  /// "212 GFLOP/s on 2 threads"
  std::string text() const;
  /// Empty where all is well.
  std::string warning() const;
};

/// Multiplies on the CPU, on LibTorch's threads, for some milliseconds.
GemmCheck check_gemm(at::ScalarType dtype);

}  // namespace espalier
