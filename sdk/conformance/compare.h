#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "espalier/conformance/check.h"

namespace espalier::conformance {

/// Largest absolute difference over the largest absolute expected value; infinite where a value is
/// no number or shapes differ.
double relative_difference(const at::Tensor& actual, const at::Tensor& expected);

/// Fails unless `relative_difference` is at most `limit` (0: bit for bit).
void expect_close(Report& report, const std::string& what, const at::Tensor& actual,
                  const at::Tensor& expected, double limit, const std::string& hint = {});

/// Standard normal values that depend on `seed` and `stream` alone, float32.
at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed, std::uint64_t stream);
/// Whole numbers of [0, bound), int64.
at::Tensor random_integers(at::IntArrayRef shape, std::int64_t bound, std::uint64_t seed,
                           std::uint64_t stream);

/// A copy that records a gradient.
at::Tensor leaf(const at::Tensor& tensor);

/// Gradients of a scalar; zeros where an input does not matter.
std::vector<at::Tensor> gradients(const at::Tensor& scalar, const std::vector<at::Tensor>& inputs);

/// Compares the gradient of `function` at `point` along random directions with differences of its
/// value over `step`: to both sides, or to the smoother one, since a jump (another expert is
/// chosen) may lie on one. `limit` is relative to the length of the gradient; the median over the
/// directions counts.
void expect_gradient(Report& report, const std::string& what, const std::vector<at::Tensor>& point,
                     const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
                     std::uint64_t seed, double step, double limit);

std::string number_text(double value);
std::string shape_text(at::IntArrayRef shape);

}  // namespace espalier::conformance
