// The update of a linear layer by an adapter of low rank, for the file that is compiled for an
// instruction set. Products with a side of r columns are too narrow for a library's blocks: here
// the whole side is in registers, and the rows of the other matrix are read once. What is [r, n]
// has rows padded to whole vectors, zero behind.
#pragma once

#include "attention.h"
#include "kernels.h"
#include "rows.h"
#include "vectors.h"

namespace espalier::cpu {
namespace {

/// inner[i, p] = x[i] . side[p] for R rows and P ranks.
template <class T, int R, int P>
void low_rank_dots(const T* x, std::int64_t x_row, const float* side, std::int64_t side_row,
                   std::int64_t size, float* inner, std::int64_t inner_row) {
  Floats products[R][P] = {};
  for_lanes(size, [&](std::int64_t j, std::int64_t count) {
    Floats values[R];
    for (int i = 0; i < R; ++i) values[i] = get(x + i * x_row + j, count);
    for (int p = 0; p < P; ++p) {
      const Floats right = load(side + p * side_row + j);
      for (int i = 0; i < R; ++i) products[i][p] += values[i] * right;
    }
  });
  for (int i = 0; i < R; ++i) sums<P>(products[i], inner + i * inner_row);
}

template <class T, int R>
void low_rank_inner(const T* x, std::int64_t x_row, const float* side, std::int64_t size,
                    std::int64_t rank, float* inner) {
  const std::int64_t side_row = padded(size);
  std::int64_t p = 0;
  for (; p + kTileVectors <= rank; p += kTileVectors)
    low_rank_dots<T, R, kTileVectors>(x, x_row, side + p * side_row, side_row, size, inner + p,
                                      rank);
  for (; p < rank; ++p)
    low_rank_dots<T, R, 1>(x, x_row, side + p * side_row, side_row, size, inner + p, rank);
}

/// y[i] = from[i] + sum over p of inner[i, p] side[p] for R rows; `from` null: zero.
template <class T, int R>
void low_rank_spread(const float* inner, const float* side, std::int64_t size, std::int64_t rank,
                     const T* from, std::int64_t from_row, T* y, std::int64_t y_row) {
  const std::int64_t side_row = padded(size);
  const auto columns = [&]<int V>(std::int64_t j, std::int64_t count) {
    Floats sums[R][V];
    for (int i = 0; i < R; ++i) {
      for (int v = 0; v < V; ++v)
        sums[i][v] = from == nullptr ? Floats{} : get(from + i * from_row + j + v * kLanes, count);
    }
    for (std::int64_t p = 0; p < rank; ++p) {
      Floats right[V];
      for (int v = 0; v < V; ++v) right[v] = load(side + p * side_row + j + v * kLanes);
      for (int i = 0; i < R; ++i) {
        for (int v = 0; v < V; ++v) sums[i][v] += inner[i * rank + p] * right[v];
      }
    }
    for (int i = 0; i < R; ++i) {
      for (int v = 0; v < V; ++v) put(y + i * y_row + j + v * kLanes, sums[i][v], count);
    }
  };
  std::int64_t j = 0;
  for (; j + kTileVectors * kLanes <= size; j += kTileVectors * kLanes)
    columns.template operator()<kTileVectors>(j, kLanes);
  for (; j < size; j += kLanes)
    columns.template operator()<1>(j, size - j < kLanes ? size - j : kLanes);
}

/// Calls work<R>(row) for rows begin to end, kTileRows at a time while there are so many.
template <class Work>
void low_rank_rows(std::int64_t begin, std::int64_t end, const Work& work) {
  std::int64_t i = begin;
  for (; i + kTileRows <= end; i += kTileRows) work.template operator()<kTileRows>(i);
  for (; i < end; ++i) work.template operator()<1>(i);
}

void low_rank_forward(const LowRankArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    low_rank_rows(begin, end, [&]<int R>(std::int64_t i) {
      float* inner = a.inner + i * a.rank;
      low_rank_inner<T, R>(row<T>(a.x, i, a.x_row), a.x_row, a.a, a.in, a.rank, inner);
      for (std::int64_t k = 0; k < R * a.rank; k += kLanes) {
        const std::int64_t count = R * a.rank - k < kLanes ? R * a.rank - k : kLanes;
        put(inner + k, rounded<T>(get(inner + k, count)), count);
      }
      low_rank_spread<T, R>(inner, a.b, a.out, a.rank, row<T>(a.base, i, a.base_row), a.base_row,
                            row<T>(a.y, i, a.y_row), a.y_row);
    });
  });
}

void low_rank_backward(const LowRankArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    low_rank_rows(begin, end, [&]<int R>(std::int64_t i) {
      float* inner = a.grad_inner + i * a.rank;
      low_rank_inner<T, R>(row<T>(a.grad, i, a.grad_row), a.grad_row, a.b, a.out, a.rank, inner);
      if (a.grad_x == nullptr) return;
      low_rank_spread<T, R>(inner, a.a, a.in, a.rank, static_cast<const T*>(nullptr), 0,
                            row<T>(a.grad_x, i, a.in), a.in);
    });
  });
}

/// to[p, j] = sum over rows of inner[row, p] x[row, j] for P ranks and V vectors from j.
template <class T, int P, int V>
void low_rank_tile(const LowRankSums& a, std::int64_t first, std::int64_t j, std::int64_t count) {
  const std::int64_t lanes = V > 1 ? kLanes : count;  // several vectors are whole ones
  Floats sums[P][V] = {};
  const T* x = static_cast<const T*>(a.x) + j;
  const float* inner = a.inner + first;
  for (std::int64_t i = 0; i < a.rows; ++i) {
    Floats right[V];
    for (int v = 0; v < V; ++v) right[v] = get(x + v * kLanes, lanes);
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < V; ++v) sums[p][v] += inner[p] * right[v];
    }
    x += a.x_row;
    inner += a.rank;
  }
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < V; ++v) {
      const Floats values = sums[p][v] * a.scale;
      const std::int64_t column = j + v * kLanes;
      if (!a.transposed) {
        put(row<T>(a.to, first + p, a.columns) + column, values, count);
        continue;
      }
      for (std::int64_t lane = 0; lane < count; ++lane)
        set(row<T>(a.to, column + lane, a.rank)[first + p], values[lane]);
    }
  }
}

template <class T, int V>
void low_rank_columns(const LowRankSums& a, std::int64_t j, std::int64_t count) {
  std::int64_t p = 0;
  for (; p + kTileRows <= a.rank; p += kTileRows) low_rank_tile<T, kTileRows, V>(a, p, j, count);
  for (; p < a.rank; ++p) low_rank_tile<T, 1, V>(a, p, j, count);
}

void low_rank_sums(const LowRankSums& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    std::int64_t vector = begin;
    for (; vector + kTileVectors <= end && (vector + kTileVectors) * kLanes <= a.columns;
         vector += kTileVectors)
      low_rank_columns<T, kTileVectors>(a, vector * kLanes, kLanes);
    for (; vector < end; ++vector) {
      const std::int64_t left = a.columns - vector * kLanes;
      low_rank_columns<T, 1>(a, vector * kLanes, left < kLanes ? left : kLanes);
    }
  });
}

}  // namespace
}  // namespace espalier::cpu
