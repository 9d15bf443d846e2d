#pragma once

#include <bit>
#include <cstdint>

namespace espalier {

/// Exact: every bfloat16 is a float.
inline float bfloat16_to_float(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

/// Rounds to nearest, ties to even, as PyTorch does; NaN stays NaN.
inline std::uint16_t float_to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

/// Exact: every IEEE half is a float.
inline float half_to_float(std::uint16_t value) {
  const std::uint32_t sign = (value & 0x8000U) << 16;
  const std::uint32_t magnitude = value & 0x7FFFU;
  if (magnitude >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | magnitude << 13);
  // As a float with the half's exponent field the value is too small by 2^112; this scaling is
  // exact and turns subnormal halves into normal floats.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | sign);
}

/// Rounds to nearest, ties to even; what is too large becomes infinite; NaN stays NaN.
inline std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U | (magnitude >> 13 & 0x1FFU);
  } else if (magnitude >= 0x477FF000U) {  // 65520, from where on rounding gives infinity
    half = 0x7C00U;
  } else if (magnitude >= 0x38800000U) {  // 2^-14, the least normal half
    const std::uint32_t rebased = magnitude - (112U << 23);
    half = (rebased + 0xFFFU + (rebased >> 13 & 1U)) >> 13;
  } else {
    // Adding 0.5 aligns the last bit of the sum with that of the subnormal halves, 2^-24, so that
    // the addition rounds for us.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
    half = std::bit_cast<std::uint32_t>(aligned) - std::bit_cast<std::uint32_t>(0.5F);
  }
  return static_cast<std::uint16_t>(sign | half);
}

}  // namespace espalier
