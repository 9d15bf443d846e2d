// The kernels, for the file that is compiled for an instruction set.
#pragma once

#include "kernels.h"
#include "vectors.h"

namespace espalier::cpu {
namespace {

constexpr std::int64_t kNoLabel = -100;
constexpr float kQuickGeluSlope = 1.702F;
constexpr float kGeluSlope = 0.7978845608F;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715F;

template <class T>
const T* row(const void* base, std::int64_t index, std::int64_t stride) {
  return static_cast<const T*>(base) + index * stride;
}

template <class T>
T* row(void* base, std::int64_t index, std::int64_t stride) {
  return static_cast<T*>(base) + index * stride;
}

/// Calls `function` with null pointers of the element types.
template <class Function>
void with_type(Type type, const Function& function) {
  if (type == Type::kFloat)
    function(static_cast<float*>(nullptr));
  else
    function(static_cast<Bf16*>(nullptr));
}

// --- rms_norm: y = x r (offset + w) with r = 1 / sqrt(mean(x^2) + eps), rounded where the
// reference does

template <class T, class W>
void rms_norm_rows(const RmsNormArguments& a, std::int64_t begin, std::int64_t end) {
  const W* weight = static_cast<const W*>(a.weight);
  for (std::int64_t i = begin; i < end; ++i) {
    const T* x = row<T>(a.x, i, a.row_stride);
    T* y = row<T>(a.y, i, a.columns);
    Floats squares{};
    for_lanes(a.columns, [&](std::int64_t j, std::int64_t count) {
      const Floats value = get(x + j, count);
      squares += value * value;
    });
    const float mean = sum(squares) / static_cast<float>(a.columns) + a.epsilon;
    const float inverse = 1.0F / __builtin_sqrtf(mean);
    a.inverse[i] = inverse;
    for_lanes(a.columns, [&](std::int64_t j, std::int64_t count) {
      const Floats n = get(x + j, count) * inverse;
      put(y + j, (a.offset == 0 ? rounded<T>(n) : n) * (get(weight + j, count) + a.offset), count);
    });
  }
}

// With n = x r:  dw += g n,  dx = r (g w - n mean(g w n))
template <class T, class W>
void rms_norm_backward_rows(const RmsNormArguments& a, std::int64_t begin, std::int64_t end) {
  const W* weight = static_cast<const W*>(a.weight);
  for (std::int64_t i = begin; i < end; ++i) {
    const T* x = row<T>(a.x, i, a.row_stride);
    const T* grad = row<T>(a.grad, i, a.columns);
    const float inverse = a.inverse[i];
    Floats products{};
    for_lanes(a.columns, [&](std::int64_t j, std::int64_t count) {
      const Floats g = get(grad + j, count);
      const Floats n = get(x + j, count) * inverse;
      products += g * (get(weight + j, count) + a.offset) * n;
      if (a.grad_weight != nullptr)
        put(a.grad_weight + j, get(a.grad_weight + j, count) + g * n, count);
    });
    if (a.grad_x == nullptr) continue;
    const float mean = sum(products) / static_cast<float>(a.columns);
    T* grad_x = row<T>(a.grad_x, i, a.columns);
    for_lanes(a.columns, [&](std::int64_t j, std::int64_t count) {
      const Floats g = get(grad + j, count) * (get(weight + j, count) + a.offset);
      put(grad_x + j, (g - get(x + j, count) * inverse * mean) * inverse, count);
    });
  }
}

void rms_norm(const RmsNormArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    with_type(a.weight_type, [&]<class W>(W*) { rms_norm_rows<T, W>(a, begin, end); });
  });
}

void rms_norm_backward(const RmsNormArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    with_type(a.weight_type, [&]<class W>(W*) { rms_norm_backward_rows<T, W>(a, begin, end); });
  });
}

// --- rotary: (a, b) -> (a cos - b sin, b cos + a sin), a row is a token

template <class T>
void turn_halves(const RotaryArguments& a, const T* x, const float* cos, const float* sin, T* y) {
  for_lanes(a.half, [&](std::int64_t j, std::int64_t count) {
    const Floats c = rounded<T>(get(cos + j, count));
    const Floats s = rounded<T>(get(sin + j, count)) * a.direction;
    const Floats first = get(x + j, count);
    const Floats second = get(x + a.half + j, count);
    put(y + j, rounded<T>(first * c) - rounded<T>(second * s), count);
    put(y + a.half + j, rounded<T>(second * c) + rounded<T>(first * s), count);
  });
}

inline float to_float(float value) { return value; }
inline float to_float(Bf16 value) { return load_part(&value, 1)[0]; }
inline void set(float& target, float value) { target = value; }
inline void set(Bf16& target, float value) { target.bits = narrowed(all(value))[0]; }

template <class T>
void turn_neighbours(const RotaryArguments& a, const T* x, const float* cos, const float* sin,
                     T* y) {
  for (std::int64_t j = 0; j < a.half; ++j) {
    const float c = rounded<T>(all(cos[j]))[0];
    const float s = rounded<T>(all(sin[j]))[0] * a.direction;
    const float first = to_float(x[2 * j]);
    const float second = to_float(x[2 * j + 1]);
    set(y[2 * j], rounded<T>(all(first * c))[0] - rounded<T>(all(second * s))[0]);
    set(y[2 * j + 1], rounded<T>(all(second * c))[0] + rounded<T>(all(first * s))[0]);
  }
}

void rotary(const RotaryArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t head = 0; head < a.heads; ++head) {
        const T* x = row<T>(a.x, i, a.token_stride) + head * a.head_stride;
        T* y = row<T>(a.y, i * a.heads + head, a.width);
        if (a.interleaved)
          turn_neighbours(a, x, a.cos + i * a.half, a.sin + i * a.half, y);
        else
          turn_halves(a, x, a.cos + i * a.half, a.sin + i * a.half, y);
        for (std::int64_t j = 2 * a.half; j < a.width; ++j) y[j] = x[j];
      }
    }
  });
}

// --- gated_activation: y = f(gate) up

struct Silu {
  static Floats value(Floats x) { return x * sigmoid(x); }
  static Floats slope(Floats x) {
    const Floats s = sigmoid(x);
    return s * (1.0F + x * (1.0F - s));
  }
};

struct GeluTanh {
  static Floats tangent(Floats x) {
    const Floats inner = kGeluSlope * (x + kGeluCubic * x * x * x);
    return 1.0F - 2.0F / (exponential(2.0F * inner) + 1.0F);
  }
  static Floats value(Floats x) { return 0.5F * x * (1.0F + tangent(x)); }
  static Floats slope(Floats x) {
    const Floats t = tangent(x);
    const Floats inner = kGeluSlope * (1.0F + 3.0F * kGeluCubic * x * x);
    return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * inner;
  }
};

struct Relu {
  static Floats value(Floats x) { return maximum(x, Floats{}); }
  static Floats slope(Floats x) { return x > 0.0F ? all(1.0F) : Floats{}; }
};

struct ReluSquared {
  static Floats value(Floats x) {
    const Floats positive = maximum(x, Floats{});
    return positive * positive;
  }
  static Floats slope(Floats x) { return 2.0F * maximum(x, Floats{}); }
};

struct QuickGelu {
  static Floats value(Floats x) { return x * sigmoid(kQuickGeluSlope * x); }
  static Floats slope(Floats x) {
    const Floats s = sigmoid(kQuickGeluSlope * x);
    return s + x * s * (1.0F - s) * kQuickGeluSlope;
  }
};

/// The numbers are those of ops::Activation; 1, the exact GELU, is not among them.
template <class Function>
void with_activation(int activation, const Function& function) {
  switch (activation) {
    case 0: return function(Silu());
    case 2: return function(GeluTanh());
    case 3: return function(Relu());
    case 4: return function(ReluSquared());
    default: return function(QuickGelu());
  }
}

void gated(const GatedArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    with_activation(a.activation, [&](auto activation) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* gate = row<T>(a.gate, i, a.gate_stride);
        const T* up = row<T>(a.up, i, a.up_stride);
        T* y = row<T>(a.y, i, a.columns);
        for_lanes(a.columns, [&](std::int64_t j, std::int64_t count) {
          put(y + j, rounded<T>(activation.value(get(gate + j, count))) * get(up + j, count),
              count);
        });
      }
    });
  });
}

void gated_backward(const GatedArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    with_activation(a.activation, [&](auto activation) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* gate = row<T>(a.gate, i, a.gate_stride);
        const T* up = row<T>(a.up, i, a.up_stride);
        const T* grad = row<T>(a.grad, i, a.columns);
        T* grad_gate = row<T>(a.grad_gate, i, a.columns);
        T* grad_up = row<T>(a.grad_up, i, a.columns);
        for_lanes(a.columns, [&](std::int64_t j, std::int64_t count) {
          const Floats x = get(gate + j, count);
          const Floats g = get(grad + j, count);
          put(grad_gate + j, g * get(up + j, count) * activation.slope(x), count);
          put(grad_up + j, g * activation.value(x), count);
        });
      }
    });
  });
}

// --- cross_entropy: lse - (1 - e) l_y - e mean(l) + z lse^2

template <class T>
float largest_of(const T* values, std::int64_t count) {
  Floats highest = all(-__builtin_inff());
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t j = 0; j < whole; j += kLanes) highest = maximum(highest, load(values + j));
  float top = largest(highest);
  for (std::int64_t j = whole; j < count; ++j) {
    const float value = to_float(values[j]);
    top = top < value ? value : top;
  }
  return top;
}

template <class T>
void cross_entropy_row(const CrossEntropyArguments& a, std::int64_t i) {
  const T* logits = row<T>(a.logits, i, a.row_stride);
  const std::int64_t whole = a.vocab / kLanes * kLanes;
  const float top = largest_of(logits, a.vocab);
  Floats exponentials{};
  Floats sums{};
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Floats value = load(logits + j);
    exponentials += exponential(value - top);
    sums += value;
  }
  float total = sum(exponentials);
  float mean = sum(sums);
  for (std::int64_t j = whole; j < a.vocab; ++j) {
    const float value = to_float(logits[j]);
    total += exponential(all(value - top))[0];
    mean += value;
  }
  const float lse = top + __builtin_logf(total);
  a.log_sum_exp[i] = lse;
  const std::int64_t label = a.labels[i];
  if (label == kNoLabel) {
    a.loss[i] = 0;
    return;
  }
  float loss = lse - (1.0F - a.smoothing) * to_float(logits[label]);
  if (a.smoothing > 0) loss -= a.smoothing * mean / static_cast<float>(a.vocab);
  a.loss[i] = loss + a.z_loss * lse * lse;
}

void cross_entropy(const CrossEntropyArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    for (std::int64_t i = begin; i < end; ++i) cross_entropy_row<T>(a, i);
  });
}

void cross_entropy_backward(const CrossEntropyArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* logits = row<T>(a.logits, i, a.row_stride);
      T* grad = row<T>(a.grad, i, a.vocab);
      const std::int64_t label = a.labels[i];
      const float scale = label == kNoLabel ? 0.0F : a.scale;
      const float lse = a.log_sum_exp[i];
      const float factor = scale * (1.0F + 2.0F * a.z_loss * lse);
      const float spread = scale * a.smoothing / static_cast<float>(a.vocab);
      if (scale == 0.0F) {
        for_lanes(a.vocab,
                  [&](std::int64_t j, std::int64_t count) { put(grad + j, Floats{}, count); });
        continue;
      }
      // From the logit itself, so that nothing is rounded twice; `grad` may be where the logits
      // are.
      const float share = exponential(all(to_float(logits[label]) - lse))[0];
      for_lanes(a.vocab, [&](std::int64_t j, std::int64_t count) {
        put(grad + j, exponential(get(logits + j, count) - lse) * factor - spread, count);
      });
      set(grad[label], share * factor - spread - scale * (1.0F - a.smoothing));
    }
  });
}

// --- softmax_tile: exp(l - m) with the maximum m so far

template <class T>
void softmax_tile_row(const SoftmaxTileArguments& a, std::int64_t i) {
  const T* logits = row<T>(a.logits, i, a.row_stride);
  T* values = row<T>(a.values, i, a.columns);
  const float before = a.maximum[i];
  const float here = largest_of(logits, a.columns);
  const float top = before < here ? here : before;
  const std::int64_t whole = a.columns / kLanes * kLanes;
  Floats sums{};
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Floats value = exponential(load(logits + j) - top);
    store(values + j, value);
    sums += value;
  }
  float total = sum(sums);
  for (std::int64_t j = whole; j < a.columns; ++j) {
    const float value = exponential(all(to_float(logits[j]) - top))[0];
    set(values[j], value);
    total += value;
  }
  a.new_maximum[i] = top;
  a.factor[i] = exponential(all(before - top))[0];
  a.new_sum[i] = a.sum[i] * a.factor[i] + total;
}

void softmax_tile(const SoftmaxTileArguments& a, std::int64_t begin, std::int64_t end) {
  with_type(a.type, [&]<class T>(T*) {
    for (std::int64_t i = begin; i < end; ++i) softmax_tile_row<T>(a, i);
  });
}

}  // namespace
}  // namespace espalier::cpu
