// Linear layers of few rows, for the file that is compiled for an instruction set. The weight comes
// from memory once, one row after the other: a core reads one stream a third faster than two that
// take turns. The rows of x stay in the cache.
#pragma once

#include "rows.h"

namespace espalier::cpu {
namespace {

constexpr std::int64_t kRowsAtOnce = 4;  // of x, whose sums are kept in registers
// Sums of a row that do not wait for each other.
constexpr std::int64_t kChains = kLanes == 16 ? 4 : 2;

template <class T>
void finish(const DecodeArguments& a, std::int64_t row, std::int64_t j, float total) {
  if (a.scale != nullptr) total *= a.scale[j];
  if (a.bias != nullptr) total += a.bias[j];
  set(static_cast<T*>(a.y)[row * a.out + j], total);
}

/// Rows `first` to `first + Rows` of x times row `j` of the weight. Sums go in the same order
/// whatever the number of rows.
template <class T, class W, std::int64_t Rows>
void decode_tile(const DecodeArguments& a, std::int64_t first, std::int64_t j) {
  const W* weight = row<W>(a.weight, j, a.in);
  const float* x = a.x + first * a.in;
  Floats sums[Rows][kChains] = {};
  std::int64_t i = 0;
  for (; i + kChains * kLanes <= a.in; i += kChains * kLanes) {
    for (std::int64_t chain = 0; chain < kChains; ++chain) {
      const std::int64_t at = i + chain * kLanes;
      const Floats w = load(weight + at);
      for (std::int64_t r = 0; r < Rows; ++r) sums[r][chain] += load(x + r * a.in + at) * w;
    }
  }
  for (; i < a.in; i += kLanes) {
    const std::int64_t count = a.in - i < kLanes ? a.in - i : kLanes;
    const Floats w = get(weight + i, count);
    for (std::int64_t r = 0; r < Rows; ++r) sums[r][0] += get(x + r * a.in + i, count) * w;
  }
  for (std::int64_t r = 0; r < Rows; ++r) {
    Floats total = sums[r][0];
    for (std::int64_t chain = 1; chain < kChains; ++chain) total += sums[r][chain];
    finish<T>(a, first + r, j, sum(total));
  }
}

template <class T, class W>
void decode_columns(const DecodeArguments& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t j = begin; j < end; ++j) {
    for (std::int64_t first = 0; first < a.rows; first += kRowsAtOnce) {
      switch (a.rows - first) {
        case 1: decode_tile<T, W, 1>(a, first, j); break;
        case 2: decode_tile<T, W, 2>(a, first, j); break;
        case 3: decode_tile<T, W, 3>(a, first, j); break;
        default: decode_tile<T, W, kRowsAtOnce>(a, first, j);
      }
    }
  }
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
