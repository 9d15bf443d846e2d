#include "espalier/io/initial_value.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "espalier/base/random.h"

namespace espalier {
namespace {

/// Value `index` of a parameter that starts at random.
double drawn_value(const Initialisation& how, const CounterRandom& random, std::uint64_t index) {
  if (how.kind == Initialisation::Kind::kNormal)
    return random.normal(index) * how.standard_deviation;
  const double uniform = random.uniform(index);
  if (how.kind == Initialisation::Kind::kUniform) return (2 * uniform - 1) * how.bound;
  const double step = how.minimum * std::pow(how.maximum / how.minimum, uniform);
  return step + std::log(-std::expm1(-step));  // the inverse of softplus
}

}  // namespace

at::Tensor initial_value(const ParameterSpec& spec, at::ScalarType dtype, std::uint64_t seed) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  switch (spec.initialisation.kind) {
    case Initialisation::Kind::kZeros: return at::zeros(spec.shape(), options).to(dtype);
    case Initialisation::Kind::kOnes: return at::ones(spec.shape(), options).to(dtype);
    case Initialisation::Kind::kLogIndex:
      return at::arange(1, spec.shape().back() + 1, options)
          .log()
          .expand(spec.shape())
          .to(dtype)
          .contiguous();
    default: break;
  }
  at::Tensor value = at::empty(spec.shape(), options);
  // Keyed by name: a parameter's start does not depend on which others a rank holds.
  const CounterRandom random(seed, hash_text(spec.name));
  float* data = value.data_ptr<float>();
  for (std::int64_t i = 0; i < value.numel(); ++i) {
    data[i] =
        static_cast<float>(drawn_value(spec.initialisation, random, static_cast<std::uint64_t>(i)));
  }
  return value.to(dtype);
}

}  // namespace espalier
