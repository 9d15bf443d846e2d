// Attention inside documents, for the file that is compiled for an instruction set. A task is a
// document and a key head, with all query heads that share it. Everything is float32 in the
// thread's scratch memory, in rows that are padded to whole vectors; blocks of queries see the keys
// up to their last one.
#pragma once

#include "kernels.h"
#include "rows.h"
#include "vectors.h"

namespace espalier::cpu {
namespace {

constexpr std::int64_t kQueries = 32;  // of a block
constexpr int kTileRows = 4;
constexpr int kTileVectors = kLanes == 16 ? 4 : 2;  // what the registers hold besides the operands

inline std::int64_t padded(std::int64_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

/// A matrix of the product below: element (i, p) at data[i * row + p * column].
struct Left {
  const float* data;
  std::int64_t row;
  std::int64_t column;
};

template <int R, int V>
void product_tile(const Left& a, const float* b, std::int64_t b_row, float* c, std::int64_t c_row,
                  std::int64_t depth, bool add) {
  Floats sums[R][V] = {};
  for (std::int64_t p = 0; p < depth; ++p) {
    Floats right[V];
    for (int v = 0; v < V; ++v) right[v] = load(b + p * b_row + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const float left = a.data[r * a.row + p * a.column];
      for (int v = 0; v < V; ++v) sums[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      float* target = c + r * c_row + v * kLanes;
      store(target, add ? load(target) + sums[r][v] : sums[r][v]);
    }
  }
}

template <int V>
void product_columns(Left a, const float* b, std::int64_t b_row, float* c, std::int64_t c_row,
                     std::int64_t rows, std::int64_t depth, bool add) {
  std::int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) {
    product_tile<kTileRows, V>(a, b, b_row, c, c_row, depth, add);
    a.data += kTileRows * a.row;
    c += kTileRows * c_row;
  }
  for (; i < rows; ++i) {
    product_tile<1, V>(a, b, b_row, c, c_row, depth, add);
    a.data += a.row;
    c += c_row;
  }
}

/// c = a b, or c += a b: [rows, columns] of [rows, depth] and [depth, columns]; columns in whole
/// vectors.
void product(const Left& a, const float* b, std::int64_t b_row, float* c, std::int64_t c_row,
             std::int64_t rows, std::int64_t columns, std::int64_t depth, bool add) {
  constexpr std::int64_t kWide = kTileVectors * kLanes;
  std::int64_t j = 0;
  for (; j + kWide <= columns; j += kWide)
    product_columns<kTileVectors>(a, b + j, b_row, c + j, c_row, rows, depth, add);
  for (; j < columns; j += kLanes)
    product_columns<1>(a, b + j, b_row, c + j, c_row, rows, depth, add);
}

struct Rows {
  const float* data;
  std::int64_t stride;
};

/// Rows as float32 in whole vectors: where they lie, or a copy in `scratch`.
template <class T>
Rows as_floats(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t width,
               float* scratch) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (width % kLanes == 0) return {from, stride};
  }
  const std::int64_t wide = padded(width);
  for (std::int64_t i = 0; i < rows; ++i) {
    for_lanes(width, [&](std::int64_t j, std::int64_t count) {
      store(scratch + i * wide + j, get(from + i * stride + j, count));
    });
  }
  return {scratch, wide};
}

/// [width, padded(rows)] of [rows, width], zero behind.
void transpose(const Rows& from, std::int64_t rows, std::int64_t width, float* to) {
  const std::int64_t wide = padded(rows);
  for (std::int64_t j = 0; j < width; ++j) {
    float* row = to + j * wide;
    for (std::int64_t i = 0; i < rows; ++i) row[i] = from.data[i * from.stride + j];
    for (std::int64_t i = rows; i < wide; ++i) row[i] = 0;
  }
}

void clear(float* values, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLanes) store(values + i, Floats{});
}

/// The queries `first` to `first + rows` of a document and the keys that any of them sees, from
/// `begin`, a whole vector, to `end`.
struct Block {
  Block(const AttentionArguments& a, std::int64_t first_query, std::int64_t length)
      : first(first_query),
        rows(length - first < kQueries ? length - first : kQueries),
        begin(a.window > 0 && first >= a.window ? (first - a.window + 1) / kLanes * kLanes : 0),
        end(first + rows) {}
  std::int64_t keys() const { return end - begin; }
  /// The first key that query i sees, and one behind the last, counted from `begin`.
  std::int64_t low(const AttentionArguments& a, std::int64_t i) const {
    const std::int64_t key = a.window > 0 ? first + i - a.window + 1 : 0;
    return key > begin ? key - begin : 0;
  }
  std::int64_t high(std::int64_t i) const { return first + i + 1 - begin; }

  std::int64_t first;
  std::int64_t rows;
  std::int64_t begin;
  std::int64_t end;
};

/// e^(scale s - top) where the query sees the key, 0 elsewhere, in place; returns the sum.
float exponentials_of(float* scores, std::int64_t size, std::int64_t low, std::int64_t high,
                      float scale, float top) {
  Floats total{};
  for (std::int64_t j = 0; j < size; j += kLanes) {
    Floats value = exponential(load(scores + j) * scale - top);
    if (j < low || j + kLanes > high) {
      for (std::int64_t lane = 0; lane < kLanes; ++lane)
        if (j + lane < low || j + lane >= high) value[lane] = 0;
    }
    total += value;
    store(scores + j, value);
  }
  return sum(total);
}

float highest_of(const float* scores, std::int64_t low, std::int64_t high) {
  std::int64_t j = low;
  Floats top = all(scores[low]);
  for (; j + kLanes <= high; j += kLanes) top = maximum(top, load(scores + j));
  float result = largest(top);
  for (; j < high; ++j) result = result < scores[j] ? scores[j] : result;
  return result;
}

/// Where a task's matrices are; the sizes are those of attention_scratch().
struct Scratch {
  Scratch(float* memory, std::int64_t length, std::int64_t width)
      : rows(padded(width) * length), columns(width * padded(length)), next(memory) {}
  float* take_rows() { return take(rows); }
  float* take_columns() { return take(columns); }
  float* take(std::int64_t size) {
    float* part = next;
    next += size;
    return part;
  }
  std::int64_t rows;
  std::int64_t columns;
  float* next;
};

/// What both passes of a task begin with: the keys and values of its document and key head.
template <class T>
struct Task {
  Task(const AttentionArguments& arguments, std::int64_t document, std::int64_t key_head)
      : a(arguments),
        start(a.starts[document]),
        length(a.starts[document + 1] - start),
        wide(padded(a.width)),
        score_row(padded(length)),
        first_head(key_head * (a.heads / a.kv_heads)),
        last_head(first_head + a.heads / a.kv_heads),
        scratch(a.scratch, length, a.width),
        keys(as_floats(row<T>(a.k, start, a.k_token) + key_head * a.k_head, a.k_token, length,
                       a.width, scratch.take_rows())),
        values(as_floats(row<T>(a.v, start, a.v_token) + key_head * a.v_head, a.v_token, length,
                         a.width, scratch.take_rows())),
        query_rows(scratch.take_rows()) {}

  Rows queries(std::int64_t head) const {
    return as_floats(row<T>(a.q, start, a.q_token) + head * a.q_head, a.q_token, length, a.width,
                     query_rows);
  }
  float* turned(const Rows& rows) {
    float* columns = scratch.take_columns();
    transpose(rows, length, a.width, columns);
    return columns;
  }

  const AttentionArguments& a;
  std::int64_t start;
  std::int64_t length;
  std::int64_t wide;       ///< a head's width in whole vectors
  std::int64_t score_row;  ///< a row of scores in whole vectors
  std::int64_t first_head;
  std::int64_t last_head;  ///< one behind
  Scratch scratch;
  Rows keys;
  Rows values;
  float* query_rows;
};

template <class T>
void attend(const AttentionArguments& a, std::int64_t document, std::int64_t key_head) {
  Task<T> task(a, document, key_head);
  const std::int64_t start = task.start;
  const std::int64_t length = task.length;
  const std::int64_t wide = task.wide;
  const std::int64_t score_row = task.score_row;
  const Rows& values = task.values;
  const float* turned = task.turned(task.keys);
  float* scores = task.scratch.take(kQueries * score_row);
  float* mixed = task.scratch.take(kQueries * wide);
  for (std::int64_t head = task.first_head; head < task.last_head; ++head) {
    const Rows queries = task.queries(head);
    for (std::int64_t first = 0; first < length; first += kQueries) {
      const Block block(a, first, length);
      const std::int64_t seen = padded(block.keys());
      product({queries.data + first * queries.stride, queries.stride, 1}, turned + block.begin,
              score_row, scores, score_row, block.rows, seen, a.width, /*add=*/false);
      float inverse[kQueries];
      for (std::int64_t i = 0; i < block.rows; ++i) {
        float* line = scores + i * score_row;
        const std::int64_t low = block.low(a, i);
        const std::int64_t high = block.high(i);
        const float top = highest_of(line, low, high) * a.scale;
        const float total = exponentials_of(line, seen, low, high, a.scale, top);
        inverse[i] = 1.0F / total;
        a.log_sum_exp[(start + first + i) * a.heads + head] = top + __builtin_logf(total);
      }
      product({scores, score_row, 1}, values.data + block.begin * values.stride, values.stride,
              mixed, wide, block.rows, wide, block.keys(), /*add=*/false);
      for (std::int64_t i = 0; i < block.rows; ++i) {
        T* output = row<T>(a.output, (start + first + i) * a.heads + head, a.width);
        for_lanes(a.width, [&](std::int64_t j, std::int64_t count) {
          put(output + j, load(mixed + i * wide + j) * inverse[i], count);
        });
      }
    }
  }
}

/// The row sums of dO O: [rows].
template <class T>
void inner_products(const AttentionArguments& a, const Rows& grads, std::int64_t start,
                    std::int64_t length, std::int64_t head, float* inner) {
  for (std::int64_t i = 0; i < length; ++i) {
    const T* output = row<T>(a.output, (start + i) * a.heads + head, a.width);
    Floats total{};
    for_lanes(a.width, [&](std::int64_t j, std::int64_t count) {
      total += load(grads.data + i * grads.stride + j) * get(output + j, count);
    });
    inner[i] = sum(total);
  }
}

template <class T>
void put_rows(T* to, std::int64_t stride, const float* from, std::int64_t rows,
              std::int64_t width) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for_lanes(width, [&](std::int64_t j, std::int64_t count) {
      put(to + i * stride + j, load(from + i * padded(width) + j), count);
    });
  }
}

template <class T>
void attend_backward(const AttentionArguments& a, std::int64_t document, std::int64_t key_head) {
  Task<T> task(a, document, key_head);
  const std::int64_t start = task.start;
  const std::int64_t length = task.length;
  const std::int64_t wide = task.wide;
  const std::int64_t score_row = task.score_row;
  const Rows& keys = task.keys;
  const Rows& values = task.values;
  const float* turned_keys = task.turned(keys);
  const float* turned_values = task.turned(values);
  float* grad_rows = task.scratch.take_rows();
  float* grad_keys = task.scratch.take_rows();
  float* grad_values = task.scratch.take_rows();
  float* shares = task.scratch.take(kQueries * score_row);
  float* grad_scores = task.scratch.take(kQueries * score_row);
  float* grad_queries = task.scratch.take(kQueries * wide);
  float* inner = task.scratch.take(score_row);
  clear(grad_keys, length * wide);
  clear(grad_values, length * wide);
  for (std::int64_t head = task.first_head; head < task.last_head; ++head) {
    const Rows queries = task.queries(head);
    const Rows grads = as_floats(row<T>(a.grad, start * a.heads + head, a.width), a.heads * a.width,
                                 length, a.width, grad_rows);
    inner_products<T>(a, grads, start, length, head, inner);
    for (std::int64_t first = 0; first < length; first += kQueries) {
      const Block block(a, first, length);
      const std::int64_t seen = padded(block.keys());
      const Left query_block{queries.data + first * queries.stride, queries.stride, 1};
      const Left grad_block{grads.data + first * grads.stride, grads.stride, 1};
      product(query_block, turned_keys + block.begin, score_row, shares, score_row, block.rows,
              seen, a.width, /*add=*/false);
      product(grad_block, turned_values + block.begin, score_row, grad_scores, score_row,
              block.rows, seen, a.width, /*add=*/false);
      for (std::int64_t i = 0; i < block.rows; ++i) {
        float* share = shares + i * score_row;
        float* line = grad_scores + i * score_row;
        exponentials_of(share, seen, block.low(a, i), block.high(i), a.scale,
                        a.log_sum_exp[(start + first + i) * a.heads + head]);
        for (std::int64_t j = 0; j < seen; j += kLanes)
          store(line + j, load(share + j) * (load(line + j) - inner[first + i]) * a.scale);
      }
      product({shares, 1, score_row}, grad_block.data, grads.stride,
              grad_values + block.begin * wide, wide, block.keys(), wide, block.rows, true);
      product({grad_scores, 1, score_row}, query_block.data, queries.stride,
              grad_keys + block.begin * wide, wide, block.keys(), wide, block.rows, true);
      product({grad_scores, score_row, 1}, keys.data + block.begin * keys.stride, keys.stride,
              grad_queries, wide, block.rows, wide, block.keys(), /*add=*/false);
      put_rows(row<T>(a.grad_q, (start + first) * a.heads + head, a.width), a.heads * a.width,
               grad_queries, block.rows, a.width);
    }
  }
  put_rows(row<T>(a.grad_k, start * a.kv_heads + key_head, a.width), a.kv_heads * a.width,
           grad_keys, length, a.width);
  put_rows(row<T>(a.grad_v, start * a.kv_heads + key_head, a.width), a.kv_heads * a.width,
           grad_values, length, a.width);
}

/// The tasks from `begin` to `end`, numbered document by document.
void attention(const AttentionArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    for (std::int64_t task = begin; task < end; ++task)
      attend<T>(a, task / a.kv_heads, task % a.kv_heads);
  });
}

void attention_backward(const AttentionArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    for (std::int64_t task = begin; task < end; ++task)
      attend_backward<T>(a, task / a.kv_heads, task % a.kv_heads);
  });
}

/// Floats that a thread needs for documents of up to `length` tokens, forwards or backwards.
std::int64_t attention_scratch(std::int64_t length, std::int64_t width) {
  return 6 * padded(width) * length + 2 * width * padded(length) + 2 * kQueries * padded(length) +
         kQueries * padded(width) + padded(length);
}

}  // namespace
}  // namespace espalier::cpu
