// cuda_kernels: the GPU suite of the CUDA kernel pack, without LibTorch. Each kernel is compared
// with a reference in double on the CPU (odd sizes, every dtype), then timed at a size that fills
// the chip, and its bandwidth set against that of a device-to-device copy in the same run. Inputs
// of timed runs rotate among buffers larger than the cache. Exit code 1 when a comparison fails.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../plugins/kernels/cuda/kernels.h"

namespace {

using espalier::cuda::Type;

constexpr const char* kTypeNames[] = {"float32", "bfloat16", "float16"};
constexpr int kRounds = 60;
constexpr int kBuffers = 4;
int failures = 0;

void check(int status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(status)));
  std::exit(2);
}

std::size_t bytes_of(Type type) { return type == Type::kFloat ? 4 : 2; }

float bf16_to_float(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, 4);
  return value;
}
std::uint16_t float_to_bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}
float fp16_to_float(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const float fraction = static_cast<float>(bits & 1023) / 1024.0F;
  const float magnitude = exponent == 0    ? std::ldexp(fraction, -14)
                          : exponent == 31 ? INFINITY
                                           : std::ldexp(1.0F + fraction, exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}
/// Nearest half, found from below and above; slow, for inputs of tests.
std::uint16_t float_to_fp16(float value) {
  const std::uint16_t sign = value < 0 ? 0x8000 : 0;
  const float magnitude = std::fabs(value);
  std::uint16_t low = 0;
  std::uint16_t high = 0x7BFF;
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (fp16_to_float(middle) <= magnitude ? low : high) = middle;
  }
  const bool up = fp16_to_float(high) - magnitude < magnitude - fp16_to_float(low);
  return static_cast<std::uint16_t>(sign | (up ? high : low));
}

/// Device memory; the host's values are rounded to the type that is stored.
class Buffer {
 public:
  Buffer(Type type, std::size_t count) : type_(type), count_(count) {
    check(cudaMalloc(&data_, std::max<std::size_t>(count * bytes_of(type), 16)), "cudaMalloc");
    check(cudaMemset(data_, 0xFF, count * bytes_of(type)), "cudaMemset");  // NaN: all is written
  }
  Buffer(Type type, std::vector<float>& values) : Buffer(type, values.size()) {
    if (type == Type::kFloat) {
      check(cudaMemcpy(data_, values.data(), count_ * 4, cudaMemcpyHostToDevice), "copy");
      return;
    }
    std::vector<std::uint16_t> bits(count_);
    for (std::size_t i = 0; i < count_; ++i) {
      bits[i] = type == Type::kBf16 ? float_to_bf16(values[i]) : float_to_fp16(values[i]);
      values[i] = type == Type::kBf16 ? bf16_to_float(bits[i]) : fp16_to_float(bits[i]);
    }
    check(cudaMemcpy(data_, bits.data(), count_ * 2, cudaMemcpyHostToDevice), "copy");
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }

  void* get() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  std::vector<float> read() const {
    std::vector<float> values(count_);
    if (type_ == Type::kFloat) {
      check(cudaMemcpy(values.data(), data_, count_ * 4, cudaMemcpyDeviceToHost), "copy");
      return values;
    }
    std::vector<std::uint16_t> bits(count_);
    check(cudaMemcpy(bits.data(), data_, count_ * 2, cudaMemcpyDeviceToHost), "copy");
    for (std::size_t i = 0; i < count_; ++i)
      values[i] = type_ == Type::kBf16 ? bf16_to_float(bits[i]) : fp16_to_float(bits[i]);
    return values;
  }

 private:
  Type type_;
  std::size_t count_;
  void* data_ = nullptr;
};

std::mt19937 generator(7);
std::vector<float> random_values(std::size_t count, float scale = 1.0F) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

/// The same random values again and again: those of a timed run are many.
std::vector<float> repeated_values(std::size_t count) {
  static const std::vector<float> some = random_values(std::size_t{1} << 20);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = some[i % some.size()];
  return values;
}

/// float32: 1e-5 of the largest; 16 bits: two units in the last place of the largest.
void expect(const std::string& what, Type type, const std::vector<float>& actual,
            const std::vector<double>& expected) {
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    const double difference = std::fabs(actual[i] - expected[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  const int digits = type == Type::kBf16 ? 7 : 10;
  const double limit = type == Type::kFloat
                           ? 1e-5 * largest
                           : 2 * std::ldexp(1.0, std::ilogb(std::max(largest, 1e-30)) - digits);
  const bool good = worst <= limit;
  if (!good) ++failures;
  std::printf("%s %-44s %-9s worst %.2e, limit %.2e\n", good ? "ok  " : "FAIL", what.c_str(),
              kTypeNames[static_cast<int>(type)], worst, limit);
}

/// Median milliseconds of `work(buffer number)`.
double time_of(const std::function<int(int)>& work) {
  std::vector<float> milliseconds;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  for (int round = 0; round < kRounds + 5; ++round) {
    check(cudaEventRecord(begin), "event");
    check(work(round % kBuffers), "kernel");
    check(cudaEventRecord(end), "event");
    check(cudaEventSynchronize(end), "event");
    float taken = 0;
    check(cudaEventElapsedTime(&taken, begin, end), "event");
    if (round >= 5) milliseconds.push_back(taken);
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  return milliseconds[milliseconds.size() / 2];
}

double copy_bandwidth = 0;

void report(const std::string& what, Type type, double bytes, double milliseconds) {
  const double rate = bytes / milliseconds / 1e6;
  std::printf("%-28s %-9s %8.3f ms  %7.0f GB/s  %5.1f %% of a copy\n", what.c_str(),
              kTypeNames[static_cast<int>(type)], milliseconds, rate, 100 * rate / copy_bandwidth);
}

// Each kernel: a comparison at odd sizes, a measurement at a large one.

void check_rms_norm(Type type, Type weight_type, std::int64_t rows, std::int64_t columns) {
  const auto n = static_cast<std::size_t>(rows * columns);
  auto x = random_values(n);
  auto w = random_values(static_cast<std::size_t>(columns));
  auto dy = random_values(n);
  const Buffer dx_in(type, x);
  const Buffer dw_in(weight_type, w);
  const Buffer ddy(type, dy);
  const Buffer y(type, n);
  const Buffer inverse(Type::kFloat, static_cast<std::size_t>(rows));
  const std::int64_t partials = std::min<std::int64_t>(rows, 7);
  const Buffer dx(type, n);
  const Buffer partial(Type::kFloat, static_cast<std::size_t>(partials * columns));
  const espalier::cuda::RmsNormShape shape{type, weight_type, rows, columns, 1e-6F, 1.0F};
  check(rms_norm_forward(shape, dx_in.get(), dw_in.get(), y.get(), inverse.floats(), nullptr),
        "rms_norm");
  check(rms_norm_backward(shape, dx_in.get(), dw_in.get(), inverse.floats(), ddy.get(), dx.get(),
                          partial.floats(), partials, nullptr),
        "rms_norm");
  std::vector<double> ey(n);
  std::vector<double> edx(n);
  std::vector<double> edw(static_cast<std::size_t>(columns));
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::size_t start = static_cast<std::size_t>(r * columns);
    double squares = 0;
    for (std::size_t c = 0; c < w.size(); ++c) squares += double{x[start + c]} * x[start + c];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(columns) + 1e-6);
    double product = 0;
    for (std::size_t c = 0; c < w.size(); ++c) {
      const double normal = x[start + c] * scale;
      ey[start + c] = normal * (w[c] + 1.0);
      edw[c] += dy[start + c] * normal;
      product += dy[start + c] * (w[c] + 1.0) * normal;
    }
    for (std::size_t c = 0; c < w.size(); ++c) {
      edx[start + c] = scale * (dy[start + c] * (w[c] + 1.0) -
                                x[start + c] * scale * product / static_cast<double>(columns));
    }
  }
  std::vector<float> dw(static_cast<std::size_t>(columns));
  const std::vector<float> parts = partial.read();
  for (std::size_t i = 0; i < parts.size(); ++i) dw[i % dw.size()] += parts[i];
  const std::string name = "rms_norm " + std::to_string(rows) + " x " + std::to_string(columns);
  expect(name, type, y.read(), ey);
  expect(name + " backward", type, dx.read(), edx);
  expect(name + " weight", Type::kFloat, dw, edw);
}

void time_rms_norm(Type type, std::int64_t columns) {
  const std::int64_t rows = (std::int64_t{1} << 26) / columns;
  const auto n = static_cast<std::size_t>(rows * columns);
  std::vector<Buffer*> x;
  std::vector<Buffer*> dy;
  auto values = repeated_values(n);
  for (int i = 0; i < kBuffers; ++i) {
    x.push_back(new Buffer(type, values));
    dy.push_back(new Buffer(type, values));
  }
  auto weights = random_values(static_cast<std::size_t>(columns));
  const Buffer w(type, weights);
  const Buffer y(type, n);
  const Buffer inverse(Type::kFloat, static_cast<std::size_t>(rows));
  constexpr std::int64_t kPartials = 1024;
  const Buffer partial(Type::kFloat, static_cast<std::size_t>(kPartials * columns));
  const espalier::cuda::RmsNormShape shape{type, type, rows, columns, 1e-6F, 0.0F};
  const double bytes = static_cast<double>(n * bytes_of(type));
  const std::string size = " " + std::to_string(columns);
  report("rms_norm" + size, type, 2 * bytes, time_of([&](int i) {
           return rms_norm_forward(shape, x[i]->get(), w.get(), y.get(), inverse.floats(), nullptr);
         }));
  report("rms_norm backward" + size, type, 3 * bytes, time_of([&](int i) {
           return rms_norm_backward(shape, x[i]->get(), w.get(), inverse.floats(), dy[i]->get(),
                                    y.get(), partial.floats(), kPartials, nullptr);
         }));
  for (Buffer* buffer : x) delete buffer;
  for (Buffer* buffer : dy) delete buffer;
}

void check_rotary(Type type, std::int64_t head_dim, std::int64_t half, bool interleaved) {
  constexpr std::int64_t kTokens = 37;
  constexpr std::int64_t kHeads = 3;
  const std::int64_t token_stride = kHeads * head_dim + 16;  // part of a fused projection
  auto x = random_values(static_cast<std::size_t>(kTokens * token_stride));
  auto angles = random_values(static_cast<std::size_t>(kTokens * half), 3.0F);
  std::vector<float> cos(angles.size());
  std::vector<float> sin(angles.size());
  for (std::size_t i = 0; i < angles.size(); ++i) {
    cos[i] = std::cos(angles[i]);
    sin[i] = std::sin(angles[i]);
  }
  const Buffer dx(type, x);
  const Buffer dcos(Type::kFloat, cos);
  const Buffer dsin(Type::kFloat, sin);
  const auto n = static_cast<std::size_t>(kTokens * kHeads * head_dim);
  const Buffer y(type, n);
  const espalier::cuda::RotaryShape shape{type,         kTokens,  kHeads,      head_dim, half,
                                          token_stride, head_dim, interleaved, -1.0F};
  check(rotary(shape, dx.get(), dcos.floats(), dsin.floats(), y.get(), nullptr), "rotary");
  std::vector<double> expected(n);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t h = 0; h < kHeads; ++h) {
      const float* from = x.data() + t * token_stride + h * head_dim;
      double* to = expected.data() + (t * kHeads + h) * head_dim;
      for (std::int64_t c = 0; c < head_dim; ++c) to[c] = from[c];
      for (std::int64_t j = 0; j < half; ++j) {
        const std::int64_t a = interleaved ? 2 * j : j;
        const std::int64_t b = interleaved ? 2 * j + 1 : half + j;
        const double c = cos[static_cast<std::size_t>(t * half + j)];
        const double s = -double{sin[static_cast<std::size_t>(t * half + j)]};
        to[a] = from[a] * c - from[b] * s;
        to[b] = from[b] * c + from[a] * s;
      }
    }
  }
  expect("rotary " + std::to_string(head_dim) + " of which " + std::to_string(2 * half) +
             (interleaved ? " interleaved" : ""),
         type, y.read(), expected);
}

void time_rotary(Type type) {
  constexpr std::int64_t kTokens = 1 << 15;
  constexpr std::int64_t kHeads = 32;
  constexpr std::int64_t kHeadDim = 128;
  constexpr auto kCount = static_cast<std::size_t>(kTokens * kHeads * kHeadDim);
  auto values = repeated_values(kCount);
  auto angles = random_values(static_cast<std::size_t>(kTokens * kHeadDim / 2));
  std::vector<Buffer*> x;
  for (int i = 0; i < kBuffers; ++i) x.push_back(new Buffer(type, values));
  const Buffer table(Type::kFloat, angles);
  const Buffer y(type, kCount);
  const espalier::cuda::RotaryShape shape{
      type, kTokens, kHeads, kHeadDim, kHeadDim / 2, kHeads * kHeadDim, kHeadDim, false, 1.0F};
  const double bytes =
      static_cast<double>(2 * kCount * bytes_of(type)) + static_cast<double>(2 * angles.size() * 4);
  report("rotary 32 x 128", type, bytes, time_of([&](int i) {
           return rotary(shape, x[i]->get(), table.floats(), table.floats(), y.get(), nullptr);
         }));
  for (Buffer* buffer : x) delete buffer;
}

double activation(int kind, double x) {
  switch (kind) {
    case 0: return x / (1 + std::exp(-x));
    case 1: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case 2: return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case 3: return std::max(x, 0.0);
    case 4: return std::max(x, 0.0) * std::max(x, 0.0);
    default: return x / (1 + std::exp(-1.702 * x));
  }
}

void check_gate(Type type, int kind, std::size_t count) {
  auto gate = random_values(count, 2.0F);
  auto up = random_values(count);
  auto dy = random_values(count);
  const Buffer dgate(type, gate);
  const Buffer dup(type, up);
  const Buffer ddy(type, dy);
  const Buffer y(type, count);
  const Buffer ggate(type, count);
  const Buffer gup(type, count);
  const auto n = static_cast<std::int64_t>(count);
  check(gated_activation_forward(type, kind, n, dgate.get(), dup.get(), y.get(), nullptr), "gate");
  check(gated_activation_backward(type, kind, n, dgate.get(), dup.get(), ddy.get(), ggate.get(),
                                  gup.get(), nullptr),
        "gate");
  std::vector<double> ey(count);
  std::vector<double> eg(count);
  std::vector<double> eu(count);
  for (std::size_t i = 0; i < count; ++i) {
    constexpr double kStep = 1e-5;
    const double slope =
        (activation(kind, gate[i] + kStep) - activation(kind, gate[i] - kStep)) / (2 * kStep);
    ey[i] = activation(kind, gate[i]) * up[i];
    eg[i] = double{dy[i]} * up[i] * slope;
    eu[i] = dy[i] * activation(kind, gate[i]);
  }
  const std::string name = "gated_activation " + std::to_string(kind);
  expect(name, type, y.read(), ey);
  expect(name + " gate", type, ggate.read(), eg);
  expect(name + " up", type, gup.read(), eu);
}

void time_gate(Type type) {
  constexpr std::size_t kCount = std::size_t{1} << 26;
  auto values = repeated_values(kCount);
  std::vector<Buffer*> gate;
  std::vector<Buffer*> up;
  for (int i = 0; i < kBuffers; ++i) {
    gate.push_back(new Buffer(type, values));
    up.push_back(new Buffer(type, values));
  }
  const Buffer y(type, kCount);
  const Buffer other(type, kCount);
  const double bytes = static_cast<double>(kCount * bytes_of(type));
  report("gated_activation silu", type, 3 * bytes, time_of([&](int i) {
           return gated_activation_forward(type, 0, kCount, gate[i]->get(), up[i]->get(), y.get(),
                                           nullptr);
         }));
  report("gated_activation backward", type, 5 * bytes, time_of([&](int i) {
           return gated_activation_backward(type, 0, kCount, gate[i]->get(), up[i]->get(),
                                            gate[(i + 1) % kBuffers]->get(), y.get(), other.get(),
                                            nullptr);
         }));
  for (Buffer* buffer : gate) delete buffer;
  for (Buffer* buffer : up) delete buffer;
}

struct Labels {
  explicit Labels(const std::vector<std::int64_t>& values) {
    check(cudaMalloc(&data, values.size() * 8), "cudaMalloc");
    check(cudaMemcpy(data, values.data(), values.size() * 8, cudaMemcpyHostToDevice), "copy");
  }
  Labels(const Labels&) = delete;
  Labels& operator=(const Labels&) = delete;
  ~Labels() { cudaFree(data); }
  std::int64_t* data = nullptr;
};

void check_cross_entropy(Type type, std::int64_t vocab, float smoothing, float z, float cap) {
  constexpr std::int64_t kRows = 19;
  const auto n = static_cast<std::size_t>(kRows * vocab);
  auto logits = random_values(n, 4.0F);
  std::vector<std::int64_t> labels;
  for (std::int64_t r = 0; r < kRows; ++r) labels.push_back(r % 4 == 3 ? -100 : (r * 7919) % vocab);
  const Buffer dlogits(type, logits);
  const Labels dlabels(labels);
  const Buffer loss(Type::kFloat, kRows);
  const Buffer lse(Type::kFloat, kRows);
  const Buffer grad(type, n);
  std::vector<float> scale{0.25F};
  const Buffer dscale(Type::kFloat, scale);
  const espalier::cuda::CrossEntropyShape shape{type, kRows, vocab, smoothing, z, cap};
  check(cross_entropy_forward(shape, dlogits.get(), dlabels.data, loss.floats(), lse.floats(),
                              nullptr),
        "cross_entropy");
  check(cross_entropy_backward(shape, dlogits.get(), dlabels.data, lse.floats(), dscale.floats(),
                               grad.get(), nullptr),
        "cross_entropy");
  std::vector<double> eloss(kRows);
  std::vector<double> egrad(n);
  for (std::int64_t r = 0; r < kRows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    if (labels[row] < 0) continue;
    std::vector<double> v(static_cast<std::size_t>(vocab));
    double sum = 0;
    double mean = 0;
    for (std::size_t c = 0; c < v.size(); ++c) {
      const double l = logits[row * v.size() + c];
      v[c] = cap > 0 ? cap * std::tanh(l / cap) : l;
      sum += std::exp(v[c]);
      mean += v[c] / static_cast<double>(vocab);
    }
    const double normaliser = std::log(sum);
    const auto label = static_cast<std::size_t>(labels[row]);
    eloss[row] =
        normaliser - (1 - smoothing) * v[label] - smoothing * mean + z * normaliser * normaliser;
    for (std::size_t c = 0; c < v.size(); ++c) {
      double g = (1 + 2 * z * normaliser) * std::exp(v[c] - normaliser) -
                 smoothing / static_cast<double>(vocab) - (c == label ? 1 - smoothing : 0);
      if (cap > 0) g *= 1 - (v[c] / cap) * (v[c] / cap);
      egrad[row * v.size() + c] = 0.25 * g;
    }
  }
  const std::string name = "cross_entropy " + std::to_string(vocab);
  expect(name, Type::kFloat, loss.read(), eloss);
  expect(name + " backward", type, grad.read(), egrad);
}

void time_cross_entropy(Type type, std::int64_t vocab) {
  const std::int64_t rows = (std::int64_t{1} << 27) / vocab;
  const auto n = static_cast<std::size_t>(rows * vocab);
  auto values = repeated_values(n);
  std::vector<Buffer*> logits;
  for (int i = 0; i < kBuffers; ++i) logits.push_back(new Buffer(type, values));
  std::vector<std::int64_t> list(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < list.size(); ++i)
    list[i] = static_cast<std::int64_t>(i * 7919) % vocab;
  const Labels labels(list);
  const Buffer loss(Type::kFloat, list.size());
  const Buffer lse(Type::kFloat, list.size());
  std::vector<float> one{1.0F};
  const Buffer scale(Type::kFloat, one);
  const Buffer grad(type, n);
  const espalier::cuda::CrossEntropyShape shape{type, rows, vocab, 0, 0, 0};
  const double bytes = static_cast<double>(n * bytes_of(type));
  const std::string size = " " + std::to_string(vocab);
  report("cross_entropy" + size, type, bytes, time_of([&](int i) {
           return cross_entropy_forward(shape, logits[i]->get(), labels.data, loss.floats(),
                                        lse.floats(), nullptr);
         }));
  report("cross_entropy backward" + size, type, 2 * bytes, time_of([&](int i) {
           return cross_entropy_backward(shape, logits[i]->get(), labels.data, lse.floats(),
                                         scale.floats(), grad.get(), nullptr);
         }));
  for (Buffer* buffer : logits) delete buffer;
}

using espalier::cuda::DecodeShape;
using espalier::cuda::DecodeWeight;

/// Codes of 8 bits on the device, or values of a type; `host` holds what they stand for.
struct DecodeWeights {
  DecodeWeights(DecodeWeight kind, Type type, std::vector<float> of) : host(std::move(of)) {
    const std::size_t count = host.size();
    if (kind != DecodeWeight::kInt8) {
      values = std::make_unique<Buffer>(kind == DecodeWeight::kFloat ? Type::kFloat : type, host);
      return;
    }
    std::vector<std::int8_t> codes(count);
    for (std::size_t i = 0; i < count; ++i) {
      codes[i] = static_cast<std::int8_t>(std::lround(std::clamp(host[i] * 40, -127.0F, 127.0F)));
      host[i] = codes[i];
    }
    values = std::make_unique<Buffer>(Type::kFloat, (count + 3) / 4);
    check(cudaMemcpy(values->get(), codes.data(), count, cudaMemcpyHostToDevice), "copy");
  }
  std::vector<float> host;
  std::unique_ptr<Buffer> values;
};

void check_decode_linear(Type type, DecodeWeight kind, std::int64_t rows, std::int64_t in,
                         std::int64_t out) {
  auto x = random_values(static_cast<std::size_t>(rows * in));
  auto scale = random_values(static_cast<std::size_t>(out));
  auto bias = random_values(static_cast<std::size_t>(out));
  const DecodeWeights weight(kind, type, random_values(static_cast<std::size_t>(in * out)));
  const Buffer dx(type, x);
  const Buffer dscale(Type::kFloat, scale);
  const Buffer dbias(Type::kFloat, bias);
  const Buffer y(type, static_cast<std::size_t>(rows * out));
  check(espalier::cuda::decode_linear({type, kind, rows, in, out}, dx.get(), weight.values->get(),
                                      dscale.floats(), dbias.floats(), y.get(), nullptr),
        "decode_linear");
  std::vector<double> expected(static_cast<std::size_t>(rows * out));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < out; ++j) {
      double sum = 0;
      for (std::int64_t c = 0; c < in; ++c)
        sum += double{x[static_cast<std::size_t>(r * in + c)]} *
               weight.host[static_cast<std::size_t>(j * in + c)];
      expected[static_cast<std::size_t>(r * out + j)] =
          sum * scale[static_cast<std::size_t>(j)] + bias[static_cast<std::size_t>(j)];
    }
  }
  constexpr const char* kKinds[] = {"", " float32 weight", " int8 weight"};
  expect("decode_linear " + std::to_string(rows) + " rows of " + std::to_string(in) +
             kKinds[static_cast<int>(kind)],
         type, y.read(), expected);
}

void time_decode_linear(Type type, DecodeWeight kind, std::int64_t rows) {
  constexpr std::int64_t kIn = 4096;
  constexpr std::int64_t kOut = 28672;
  constexpr auto kCount = static_cast<std::size_t>(kIn * kOut);
  std::vector<std::unique_ptr<DecodeWeights>> weights;
  for (int i = 0; i < kBuffers; ++i)
    weights.push_back(std::make_unique<DecodeWeights>(kind, type, repeated_values(kCount)));
  auto x = random_values(static_cast<std::size_t>(rows * kIn));
  auto scale = random_values(kOut);
  const Buffer dx(type, x);
  const Buffer dscale(Type::kFloat, scale);
  const Buffer y(type, static_cast<std::size_t>(rows * kOut));
  const std::size_t size = kind == DecodeWeight::kInt8    ? 1
                           : kind == DecodeWeight::kFloat ? 4
                                                          : bytes_of(type);
  report("decode_linear " + std::to_string(rows) + (kind == DecodeWeight::kInt8 ? " int8" : ""),
         type, static_cast<double>(kCount * size), time_of([&](int i) {
           return espalier::cuda::decode_linear({type, kind, rows, kIn, kOut}, dx.get(),
                                                weights[static_cast<std::size_t>(i)]->values->get(),
                                                dscale.floats(), nullptr, y.get(), nullptr);
         }));
}

void measure_copy() {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  const Buffer from(Type::kFloat, kBytes / 4);
  const Buffer to(Type::kFloat, kBytes / 4);
  const double milliseconds = time_of([&](int) {
    return cudaMemcpyAsync(to.get(), from.get(), kBytes, cudaMemcpyDeviceToDevice, nullptr);
  });
  copy_bandwidth = 2.0 * kBytes / milliseconds / 1e6;
  std::printf("a copy moves %.0f GB/s (bytes read and written)\n", copy_bandwidth);
}

}  // namespace

int main() {
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
    std::puts("no GPU: nothing was checked");
    return 77;
  }
  std::printf("%s, %d multiprocessors\n", properties.name, properties.multiProcessorCount);
  for (const Type type : {Type::kFloat, Type::kBf16, Type::kFp16}) {
    for (const auto& [rows, columns] :
         {std::pair{5, 7}, {33, 576}, {9, 1000}, {3, 4096}, {2, 5001}, {1, 8192}}) {
      check_rms_norm(type, type, rows, columns);
    }
    check_rms_norm(type, Type::kFloat, 17, 576);
    check_rotary(type, 64, 32, false);
    check_rotary(type, 64, 32, true);
    check_rotary(type, 80, 16, false);
    check_rotary(type, 10, 3, true);
    for (int kind = 0; kind < 6; ++kind) check_gate(type, kind, kind % 2 == 0 ? 4096 : 1001);
    check_cross_entropy(type, 1000, 0, 0, 0);
    check_cross_entropy(type, 4099, 0.1F, 1e-3F, 0);
    check_cross_entropy(type, 4096, 0, 0, 30);
    for (const DecodeWeight kind :
         {DecodeWeight::kAsValues, DecodeWeight::kFloat, DecodeWeight::kInt8}) {
      check_decode_linear(type, kind, 1, 576, 33);
      check_decode_linear(type, kind, 3, 1037, 18);
      check_decode_linear(type, kind, 8, 1040, 65);
    }
  }
  std::puts("");
  measure_copy();
  for (const Type type : {Type::kFloat, Type::kBf16}) {
    time_rms_norm(type, 576);
    time_rms_norm(type, 4096);
    time_rotary(type);
    time_gate(type);
    time_cross_entropy(type, 49152);
    time_cross_entropy(type, 151936);
    time_decode_linear(type, DecodeWeight::kAsValues, 1);
    time_decode_linear(type, DecodeWeight::kAsValues, 4);
    time_decode_linear(type, DecodeWeight::kInt8, 1);
  }
  std::printf("\n%s\n", failures == 0 ? "all comparisons passed" : "COMPARISONS FAILED");
  return failures == 0 ? 0 : 1;
}
