#include "engine/run/gemm_check.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/remainder.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "engine/run/machine.h"

namespace espalier {
namespace {

constexpr std::int64_t kSize = 512;
constexpr int kTries = 4;
constexpr double kSlow = 0.1;  // of the expected rate: busy machines are not that slow

/// GFLOP/s of one thread that CPUs with these instructions exceed, measured with square matrices.
/// Reference BLAS, or a dtype without instructions of its own, stays at 1 to 2.
struct Rate {
  const char* instruction_set;
  double float32;
  double bfloat16;
};
constexpr Rate kRates[] = {
    {"avx512_bf16", 50, 100}, {"avx512", 50, 0}, {"avx2", 25, 0}, {"baseline", 5, 0}};

double expected_rate(at::ScalarType dtype) {
  const std::string instructions = instruction_set();
  for (const Rate& rate : kRates) {
    if (instructions != rate.instruction_set) continue;
    if (dtype == at::kFloat) return rate.float32 * at::get_num_threads();
    if (dtype == at::kBFloat16) return rate.bfloat16 * at::get_num_threads();
  }
  return 0;
}

/// Small whole numbers, so that every dtype holds them and float32 their sums.
std::int64_t number_at(std::int64_t index) { return index % 13 - 6; }

at::Tensor numbers(at::ScalarType dtype) {
  return (at::remainder(at::arange(kSize * kSize, at::kLong), 13) - 6)
      .view({kSize, kSize})
      .to(dtype);
}

double product_at(std::int64_t row, std::int64_t column) {
  std::int64_t sum = 0;
  for (std::int64_t k = 0; k < kSize; ++k)
    sum += number_at(row * kSize + k) * number_at(k * kSize + column);
  return static_cast<double>(sum);
}

}  // namespace

std::string gemm_provider(at::Device device, at::ScalarType dtype) {
  if (!device.is_cpu()) return "cublas";
  return dtype == at::kBFloat16 || dtype == at::kHalf ? "onednn" : "mkl";
}

std::string GemmCheck::text() const {
  char text[64];
  std::snprintf(text, sizeof text, "%.0f GFLOP/s on %d threads", rate, at::get_num_threads());
  return text;
}

std::string GemmCheck::warning() const {
  if (!exact)
    return "a product of matrices gives wrong numbers on this machine: nothing that is computed "
           "here can be trusted";
  if (rate >= kSlow * expected) return {};
  char expectation[192];
  std::snprintf(
      expectation, sizeof expectation,
      " where %.0f are usual for a CPU with %s: are there more threads than cores, or other "
      "programs on them?",
      expected, instruction_set().c_str());
  return "matrix products reach " + text() + expectation;
}

GemmCheck check_gemm(at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const at::Tensor matrix = numbers(dtype);
  GemmCheck check;
  check.expected = expected_rate(dtype);
  at::Tensor product;
  for (int i = 0; i < kTries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    product = at::matmul(matrix, matrix);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const auto n = static_cast<double>(kSize);
    check.rate = std::max(check.rate, 2 * n * n * n / seconds.count() / 1e9);
  }
  const at::Tensor values = product.to(at::kDouble);
  const double* value = values.const_data_ptr<double>();
  const double rounding = dtype == at::kFloat ? 0 : 1.0 / 128;  // of the result
  check.exact = true;
  constexpr std::int64_t kStep = 67;  // odd: rows of every place in a kernel's tile
  for (std::int64_t row = 0; row < kSize; row += kStep) {
    for (std::int64_t column = 0; column < kSize; ++column) {
      const double expected = product_at(row, column);
      const double off = std::abs(value[row * kSize + column] - expected);
      check.exact = check.exact && off <= rounding * std::abs(expected);
    }
  }
  return check;
}

}  // namespace espalier
