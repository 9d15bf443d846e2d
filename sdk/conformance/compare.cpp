#include "espalier/conformance/compare.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "espalier/base/random.h"

namespace espalier::conformance {
namespace {

/// Enough for a median, few enough for a model.
constexpr int kDirections = 7;

double inner(const at::Tensor& a, const at::Tensor& b) {
  return a.to(at::kDouble).mul(b.to(at::kDouble)).sum().item<double>();
}

double norm_of(const std::vector<at::Tensor>& tensors) {
  double sum = 0;
  for (const at::Tensor& tensor : tensors) sum += inner(tensor, tensor);
  return std::sqrt(sum);
}

std::vector<at::Tensor> moved(const std::vector<at::Tensor>& point,
                              const std::vector<at::Tensor>& direction, double distance) {
  std::vector<at::Tensor> result;
  for (std::size_t i = 0; i < point.size(); ++i)
    result.push_back(point[i].detach() + direction[i] * distance);
  return result;
}

}  // namespace

double relative_difference(const at::Tensor& actual, const at::Tensor& expected) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  if (!actual.defined() || actual.sizes() != expected.sizes()) return kInfinite;
  if (actual.numel() == 0) return 0;
  const at::Tensor a = actual.detach().to(at::kCPU, at::kDouble);
  const at::Tensor b = expected.detach().to(at::kCPU, at::kDouble);
  const double difference = (a - b).abs().max().item<double>();
  if (difference == 0) return 0;
  const double largest = b.abs().max().item<double>();
  if (!std::isfinite(difference) || !std::isfinite(largest)) return kInfinite;
  return difference / std::max(largest, 1e-30);
}

void expect_close(Report& report, const std::string& what, const at::Tensor& actual,
                  const at::Tensor& expected, double limit, const std::string& hint) {
  if (!actual.defined())
    return report.fail(what, "an undefined tensor", shape_text(expected.sizes()), hint);
  if (actual.sizes() != expected.sizes())
    return report.fail(what, "shape " + shape_text(actual.sizes()),
                       "shape " + shape_text(expected.sizes()), hint);
  const double difference = relative_difference(actual, expected);
  if (difference <= limit) return;
  report.fail(what, "a difference of " + number_text(difference) + " of the largest value",
              limit == 0 ? "equal bits" : "at most " + number_text(limit), hint);
}

at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed, std::uint64_t stream) {
  at::Tensor values = at::empty(shape, at::kFloat);
  const CounterRandom random(seed, stream);
  float* data = values.data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i)
    data[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(i)));
  return values;
}

at::Tensor random_integers(at::IntArrayRef shape, std::int64_t bound, std::uint64_t seed,
                           std::uint64_t stream) {
  at::Tensor values = at::empty(shape, at::kLong);
  const CounterRandom random(seed, stream);
  auto* data = values.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < values.numel(); ++i)
    data[i] = static_cast<std::int64_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(bound)));
  return values;
}

at::Tensor leaf(const at::Tensor& tensor) {
  return tensor.detach().clone().set_requires_grad(true);
}

std::vector<at::Tensor> gradients(const at::Tensor& scalar, const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> found =
      torch::autograd::grad({scalar}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!found[i].defined()) found[i] = at::zeros_like(inputs[i]);
  }
  return found;
}

void expect_gradient(Report& report, const std::string& what, const std::vector<at::Tensor>& point,
                     const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
                     std::uint64_t seed, double step, double limit) {
  std::vector<at::Tensor> leaves;
  leaves.reserve(point.size());
  for (const at::Tensor& tensor : point) leaves.push_back(leaf(tensor));
  const std::vector<at::Tensor> gradient = gradients(function(leaves), leaves);
  const double length = norm_of(gradient);
  if (!std::isfinite(length)) return report.fail(what + " is not finite", number_text(length));

  const at::NoGradGuard no_grad;
  std::vector<double> errors;
  std::string worst;
  for (int i = 0; i < kDirections; ++i) {
    std::vector<at::Tensor> direction;
    direction.reserve(point.size());
    const auto first = 100 * static_cast<std::uint64_t>(i + 1);
    for (std::size_t j = 0; j < point.size(); ++j)
      direction.push_back(random_tensor(point[j].sizes(), seed, first + j));
    const double scale = norm_of(direction);
    for (at::Tensor& part : direction) part.div_(scale);
    // Half along the gradient, where the value changes most.
    for (std::size_t j = 0; j < point.size() && length > 0; ++j)
      direction[j] = direction[j] + gradient[j] / length;
    double expected = 0;
    for (std::size_t j = 0; j < point.size(); ++j) expected += inner(gradient[j], direction[j]);
    const auto value_at = [&](double distance) {
      return function(moved(point, direction, distance)).to(at::kDouble).item<double>();
    };
    const double above = value_at(step);
    const double here = value_at(0);
    const double below = value_at(-step);
    double measured = (above - below) / (2 * step);
    // A jump (another expert is chosen) on one side leaves the other side smooth.
    for (const double one_sided : {(above - here) / step, (here - below) / step}) {
      if (std::abs(one_sided - expected) < std::abs(measured - expected)) measured = one_sided;
    }
    errors.push_back(std::abs(measured - expected) / std::max(length, 1e-6));
    worst = "slope " + number_text(expected) + " by the gradient, " + number_text(measured) +
            " by differences";
  }
  std::nth_element(errors.begin(), errors.begin() + kDirections / 2, errors.end());
  if (const double median = errors[kDirections / 2]; !(median <= limit))
    report.fail(what + " is not the derivative of its value",
                worst + " (an error of " + number_text(median) + ")",
                "an error of at most " + number_text(limit),
                "compare the backward pass with the forward pass term by term");
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const std::int64_t size : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

}  // namespace espalier::conformance
