#pragma once

#include <ATen/core/Tensor.h>

#include <bit>
#include <cstdint>

namespace espalier {

/// Labels are whole numbers. A real target (of a regression) travels as the bits of its float32,
/// which for finite numbers is never the -100 of an ignored label.
inline std::int64_t label_of_real(float target) { return std::bit_cast<std::int32_t>(target); }

/// The inverse for a tensor of labels, int64 -> float32 of the same shape.
inline at::Tensor reals_of_labels(const at::Tensor& labels) {
  return labels.to(at::kInt).view(at::kFloat);
}

/// Several classes at once travel as bits: class c is in where bit c is set. So many are possible.
inline constexpr std::int64_t kMostClassesAtOnce = 62;

}  // namespace espalier
