// Linear layers of few rows, for the file that is compiled for an instruction set. The weight comes
// from memory once, two of its rows at a time; the rows of x stay in the cache.
#pragma once

#include "rows.h"

namespace espalier::cpu {
namespace {

constexpr std::int64_t kRowsAtOnce = 4;     // of x, whose sums are kept in registers
constexpr std::int64_t kWeightsAtOnce = 2;  // rows of the weight
// Bytes that memory is asked for ahead: the rows are too short for the CPU to see them coming.
constexpr std::int64_t kAhead = 4096;

template <class T>
void finish(const DecodeArguments& a, std::int64_t row, std::int64_t j, float total) {
  if (a.scale != nullptr) total *= a.scale[j];
  if (a.bias != nullptr) total += a.bias[j];
  set(static_cast<T*>(a.y)[row * a.out + j], total);
}

/// Rows `first` to `first + Rows` of x times `Weights` rows of the weight from `j`.
template <class T, class W, std::int64_t Rows, std::int64_t Weights>
void decode_tile(const DecodeArguments& a, std::int64_t first, std::int64_t j) {
  const W* weight = row<W>(a.weight, j, a.in);
  const float* x = a.x + first * a.in;
  Floats sums[Rows][Weights] = {};
  for_lanes(a.in, [&](std::int64_t i, std::int64_t count) {
    Floats w[Weights];
    for (std::int64_t k = 0; k < Weights; ++k) {
      const W* from = weight + k * a.in + i;
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kAhead);
      w[k] = get(from, count);
    }
    for (std::int64_t r = 0; r < Rows; ++r) {
      const Floats value = get(x + r * a.in + i, count);
      for (std::int64_t k = 0; k < Weights; ++k) sums[r][k] += value * w[k];
    }
  });
  for (std::int64_t r = 0; r < Rows; ++r) {
    for (std::int64_t k = 0; k < Weights; ++k) finish<T>(a, first + r, j + k, sum(sums[r][k]));
  }
}

template <class T, class W, std::int64_t Weights>
void decode_rows(const DecodeArguments& a, std::int64_t j) {
  for (std::int64_t first = 0; first < a.rows; first += kRowsAtOnce) {
    switch (a.rows - first) {
      case 1: decode_tile<T, W, 1, Weights>(a, first, j); break;
      case 2: decode_tile<T, W, 2, Weights>(a, first, j); break;
      case 3: decode_tile<T, W, 3, Weights>(a, first, j); break;
      default: decode_tile<T, W, kRowsAtOnce, Weights>(a, first, j);
    }
  }
}

template <class T, class W>
void decode_columns(const DecodeArguments& a, std::int64_t begin, std::int64_t end) {
  std::int64_t j = begin;
  for (; j + kWeightsAtOnce <= end; j += kWeightsAtOnce) decode_rows<T, W, kWeightsAtOnce>(a, j);
  for (; j < end; ++j) decode_rows<T, W, 1>(a, j);
}

void decode_linear(const DecodeArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    switch (a.weight_type) {
      case WeightType::kFloat: return decode_columns<T, float>(a, begin, end);
      case WeightType::kBf16: return decode_columns<T, Bf16>(a, begin, end);
      case WeightType::kInt8: return decode_columns<T, std::int8_t>(a, begin, end);
    }
  });
}

}  // namespace
}  // namespace espalier::cpu
