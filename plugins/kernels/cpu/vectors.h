// Vectors of one instruction set, for the file that is compiled for it. Everything has internal
// linkage, and nothing comes from the standard library: an inline function that the linker shares
// between files would carry instructions that other CPUs lack.
#pragma once

#include <cstdint>

namespace espalier::cpu {
namespace {

#ifdef __AVX512F__
constexpr std::int64_t kLanes = 16;
#else
constexpr std::int64_t kLanes = 8;
#endif

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Words = std::uint32_t __attribute__((vector_size(4 * kLanes)));
using Halves = std::uint16_t __attribute__((vector_size(2 * kLanes)));
using Bytes = std::int8_t __attribute__((vector_size(kLanes)));

struct Bf16 {
  std::uint16_t bits;
};

inline Floats all(float value) { return Floats{} + value; }

inline Floats widened(Halves bits) {
  return reinterpret_cast<Floats>(__builtin_convertvector(bits, Words) << 16);
}

/// To the nearest bf16, halves to even; what is not a number stays so.
inline Halves narrowed(Floats values) {
  const Words bits = reinterpret_cast<Words>(values);
  const Words rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const Words nan = (bits >> 16) | 0x40U;
  const auto is_nan = reinterpret_cast<Words>(values != values);
  return __builtin_convertvector((is_nan & nan) | (~is_nan & rounded), Halves);
}

/// As values of T hold them.
template <class T>
Floats rounded(Floats values) {
  if constexpr (sizeof(T) == sizeof(float))
    return values;
  else
    return widened(narrowed(values));
}

inline Floats load(const float* from) {
  Floats values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}

inline Floats load(const Bf16* from) {
  Halves bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return widened(bits);
}

inline Floats load(const std::int8_t* from) {
  Bytes codes;
  __builtin_memcpy(&codes, from, sizeof codes);
  return __builtin_convertvector(__builtin_convertvector(codes, Ints), Floats);
}

inline void store(float* to, Floats values) { __builtin_memcpy(to, &values, sizeof values); }

inline void store(Bf16* to, Floats values) {
  const Halves bits = narrowed(values);
  __builtin_memcpy(to, &bits, sizeof bits);
}

/// The first `count` lanes; zero in the others.
template <class T>
Floats load_part(const T* from, std::int64_t count) {
  T lanes[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load(lanes);
}

template <class T>
void store_part(T* to, Floats values, std::int64_t count) {
  T lanes[kLanes];
  store(lanes, values);
  for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

inline float sum(Floats values) {
  using Eight = float __attribute__((vector_size(32)));
  using Four = float __attribute__((vector_size(16)));
#ifdef __AVX512F__
  const Eight eight = __builtin_shufflevector(values, values, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(values, values, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  const Eight eight = values;
#endif
  const Four four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) +
                    __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[1]) + (four[2] + four[3]);
}

/// The sums of P vectors, one behind the other.
template <int P>
void sums(const Floats (&values)[P], float* to) {
#ifdef __AVX512F__
  if constexpr (P == 4) {
    // Two vectors are mixed and added while more than one quarter of each is left: one shuffle in
    // place of four.
    const auto mixed = [](Floats a, Floats b) {
      return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13,
                                     29) +
             __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15,
                                     31);
    };
    const Floats ab = mixed(values[0], values[1]);
    const Floats cd = mixed(values[2], values[3]);
    const Floats all_four =
        __builtin_shufflevector(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
        __builtin_shufflevector(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    using Four = float __attribute__((vector_size(16)));
    const Four result = (__builtin_shufflevector(all_four, all_four, 0, 1, 2, 3) +
                         __builtin_shufflevector(all_four, all_four, 4, 5, 6, 7)) +
                        (__builtin_shufflevector(all_four, all_four, 8, 9, 10, 11) +
                         __builtin_shufflevector(all_four, all_four, 12, 13, 14, 15));
    __builtin_memcpy(to, &result, sizeof result);
    return;
  }
#endif
  for (int p = 0; p < P; ++p) to[p] = sum(values[p]);
}

inline float largest(Floats values) {
  float result = values[0];
  for (std::int64_t i = 1; i < kLanes; ++i) result = result < values[i] ? values[i] : result;
  return result;
}

inline Floats maximum(Floats a, Floats b) { return a < b ? b : a; }

/// e^x with a relative error below 2e-7; 0 below -87.3, where float32 has no normal numbers, and
/// e^88 above 88. Cody and Waite's reduction, Cephes's polynomial.
inline Floats exponential(Floats x) {
  constexpr float kLog2e = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23: adding it rounds to whole numbers
  constexpr float kLowest = -87.3F;
  const Floats bounded = x > 88.0F ? all(88.0F) : (x < kLowest ? all(kLowest) : x);
  const Floats power = (bounded * kLog2e + kRounder) - kRounder;
  const Floats r = (bounded - power * kLn2High) - power * kLn2Low;
  Floats p = all(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const Floats value = p * (r * r) + r + 1.0F;
  const Ints exponent = (__builtin_convertvector(power, Ints) + 127) << 23;
  const Floats result = value * reinterpret_cast<Floats>(exponent);
  return x < kLowest ? Floats{} : result;
}

inline Floats sigmoid(Floats x) { return 1.0F / (1.0F + exponential(-x)); }

/// Calls `function(i, count)` for the lanes from i, `count` of them; all but the last are full, and
/// the compiler sees that.
template <class Function>
inline void for_lanes(std::int64_t size, const Function& function) {
  std::int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) function(i, kLanes);
  if (i < size) function(i, size - i);
}

template <class T>
inline Floats get(const T* from, std::int64_t count) {
  return count == kLanes ? load(from) : load_part(from, count);
}

template <class T>
inline void put(T* to, Floats values, std::int64_t count) {
  if (count == kLanes)
    store(to, values);
  else
    store_part(to, values, count);
}

}  // namespace
}  // namespace espalier::cpu
