// The kernels of the pack, compiled for the CPU, against the reference ops: arithmetic, indexing,
// barriers and shuffles of what a GPU will run. Sizes are odd on purpose: tails of packs, rows that
// do not fill a block, more rows than blocks, part of a head turned.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "cross_entropy.cuh"
#include "decode_linear.cuh"
#include "espalier/ops/cross_entropy.h"
#include "espalier/ops/decode_linear.h"
#include "espalier/ops/gated_activation.h"
#include "espalier/ops/rms_norm.h"
#include "espalier/ops/rotary.h"
#include "espalier/sdk/batch.h"
#include "gated_activation.cuh"
#include "rms_norm.cuh"
#include "rotary.cuh"

namespace espalier {
namespace {

using at::kBFloat16;
using at::kFloat;
using at::kHalf;

/// Calls `function` with a null pointer of the kernels' type for `type`.
template <class Function>
void with_type(at::ScalarType type, const Function& function) {
  switch (type) {
    case kBFloat16: return function(static_cast<cuda::Bf16*>(nullptr));
    case kHalf: return function(static_cast<cuda::Fp16*>(nullptr));
    default: return function(static_cast<float*>(nullptr));
  }
}

template <class T>
const T* in(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* out(at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

/// Not a number everywhere: what a kernel forgets to write shows.
at::Tensor unwritten_like(const at::Tensor& tensor) {
  return at::full_like(tensor, std::numeric_limits<double>::quiet_NaN());
}

/// float32: 1e-5 of the largest; 16 bits: two units in the last place of the largest.
void expect_close(const char* what, const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const double largest = expected.abs().max().to(at::kDouble).item<double>();
  const double worst =
      (actual.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  const int digits = actual.scalar_type() == kBFloat16 ? 7 : 10;
  const double limit = actual.scalar_type() == kFloat
                           ? 1e-5 * largest
                           : 2 * std::ldexp(1.0, std::ilogb(largest) - digits);
  EXPECT_LE(worst, limit) << what << " of " << actual.scalar_type();  // false for NaN
}

/// The input as float32 that records a gradient: references compute in float32.
at::Tensor leaf(const at::Tensor& tensor) {
  return tensor.to(kFloat).detach().clone().set_requires_grad(true);
}

at::Tensor gradient(const at::Tensor& output, const at::Tensor& input,
                    const at::Tensor& grad_output) {
  return torch::autograd::grad({output}, {input}, {grad_output}, /*retain_graph=*/true)[0];
}

class CudaKernels : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  at::Tensor random(at::IntArrayRef shape) const { return at::randn(shape).to(GetParam()); }
};

template <int N, int Threads>
void check_rms_norm(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy) {
  constexpr double kEps = 1e-6;
  constexpr double kOffset = 1.0;
  const auto rows = x.size(0);
  const cuda::RmsNormArguments arguments{rows, static_cast<int>(x.size(1)), kEps, kOffset};
  at::Tensor y = unwritten_like(x);
  at::Tensor inverse = at::empty({rows});
  at::Tensor dx = unwritten_like(x);
  const unsigned blocks = 3;
  at::Tensor partial = at::empty({blocks, x.size(1)});
  const at::Tensor x32 = leaf(x);
  const at::Tensor w32 = leaf(w);
  const at::Tensor expected = ops::rms_norm(x32, w32, kEps, kOffset);
  constexpr int kRows = cuda::kBlock / Threads;
  with_type(x.scalar_type(), [&]<class T>(T*) {
    with_type(w.scalar_type(), [&]<class W>(W*) {
      cuda::launch_on_cpu(static_cast<unsigned>((rows + kRows - 1) / kRows), cuda::kBlock, 0, [&] {
        cuda::rms_norm_forward_kernel<N, Threads>(arguments, in<T>(x), in<W>(w), out<T>(y),
                                                  out<float>(inverse));
      });
      cuda::launch_on_cpu(
          blocks, cuda::kBlock, static_cast<std::size_t>(x.size(1)) * kRows * sizeof(float), [&] {
            cuda::rms_norm_backward_kernel<N, Threads>(arguments, in<T>(x), in<W>(w),
                                                       in<float>(inverse), in<T>(dy), out<T>(dx),
                                                       out<float>(partial));
          });
    });
  });
  expect_close("rms_norm", y, expected);
  expect_close("rms_norm dx", dx, gradient(expected, x32, dy.to(kFloat)));
  expect_close("rms_norm dw", partial.sum(0), gradient(expected, w32, dy.to(kFloat)));
}

TEST_P(CudaKernels, RmsNormMatchesTheReference) {
  check_rms_norm<1, cuda::kWarp>(random({21, 7}), random({7}), random({21, 7}));
  check_rms_norm<4, cuda::kWarp>(random({70, 576}), random({576}), random({70, 576}));
  check_rms_norm<1, cuda::kBlock>(random({5, 1027}), random({1027}), random({5, 1027}));
  check_rms_norm<4, cuda::kBlock>(random({7, 2048}), random({2048}), random({7, 2048}));
  check_rms_norm<4, cuda::kWarp>(random({9, 64}), at::randn({64}), random({9, 64}));
}

template <int N, bool Interleaved>
void check_rotary(const at::Tensor& x, std::int64_t half) {
  const at::Tensor angles = at::randn({x.size(0), half}) * 3;
  const at::Tensor cos = angles.cos();
  const at::Tensor sin = angles.sin();
  const at::Tensor x32 = leaf(x);
  const at::Tensor expected = ops::rotary(x32, cos, sin, Interleaved);
  const at::Tensor dy = at::randn(x.sizes()).to(x.scalar_type());
  at::Tensor y = unwritten_like(x.contiguous());
  at::Tensor dx = unwritten_like(y);
  cuda::RotaryArguments arguments{x.size(0),
                                  static_cast<int>(x.size(1)),
                                  static_cast<int>(x.size(2)),
                                  static_cast<int>(half),
                                  x.stride(0),
                                  x.stride(1),
                                  1.0F};
  cuda::RotaryArguments back = arguments;
  back.token_stride = dy.stride(0);
  back.head_stride = dy.stride(1);
  back.direction = -1.0F;
  with_type(x.scalar_type(), [&]<class T>(T*) {
    cuda::launch_on_cpu(2, cuda::kBlock, 0, [&] {
      cuda::rotary_kernel<Interleaved, N>(arguments, in<T>(x), in<float>(cos), in<float>(sin),
                                          out<T>(y));
    });
    cuda::launch_on_cpu(2, cuda::kBlock, 0, [&] {
      cuda::rotary_kernel<Interleaved, N>(back, in<T>(dy), in<float>(cos), in<float>(sin),
                                          out<T>(dx));
    });
  });
  expect_close("rotary", y, expected);
  expect_close("rotary dx", dx, gradient(expected, x32, dy.to(kFloat)));
}

TEST_P(CudaKernels, RotaryMatchesTheReference) {
  check_rotary<4, false>(random({13, 3, 64}), 32);
  check_rotary<4, true>(random({13, 3, 64}), 32);
  check_rotary<1, true>(random({5, 2, 10}), 3);
  check_rotary<4, false>(random({9, 2, 32}), 8);  // the upper half of each head is copied
  check_rotary<4, false>(random({9, 320}).narrow(1, 64, 128).unflatten(1, {2, 64}), 32);
}

TEST_P(CudaKernels, GatedActivationMatchesTheReference) {
  for (int kind = 0; kind < 6; ++kind) {
    const at::Tensor gate = random({11, 93}) * 2;
    const at::Tensor up = random({11, 93});
    const at::Tensor dy = random({11, 93});
    const at::Tensor gate32 = leaf(gate);
    const at::Tensor up32 = leaf(up);
    const at::Tensor expected =
        ops::gated_activation(gate32, up32, static_cast<ops::Activation>(kind));
    at::Tensor y = unwritten_like(gate);
    at::Tensor dgate = unwritten_like(gate);
    at::Tensor dup = unwritten_like(gate);
    with_type(GetParam(), [&]<class T>(T*) {
      cuda::launch_on_cpu(2, cuda::kBlock, 0, [&] {
        cuda::gated_activation_forward_kernel<1>(static_cast<cuda::Gate>(kind), gate.numel(),
                                                 in<T>(gate), in<T>(up), out<T>(y));
      });
      cuda::launch_on_cpu(2, cuda::kBlock, 0, [&] {
        cuda::gated_activation_backward_kernel<1>(static_cast<cuda::Gate>(kind), gate.numel(),
                                                  in<T>(gate), in<T>(up), in<T>(dy), out<T>(dgate),
                                                  out<T>(dup));
      });
    });
    SCOPED_TRACE(kind);
    expect_close("gated_activation", y, expected);
    expect_close("gated_activation dgate", dgate, gradient(expected, gate32, dy.to(kFloat)));
    expect_close("gated_activation dup", dup, gradient(expected, up32, dy.to(kFloat)));
  }
}

template <int N>
void check_cross_entropy(const at::Tensor& logits, const ops::CrossEntropyOptions& options) {
  const std::int64_t rows = logits.size(0);
  at::Tensor labels = at::randint(logits.size(1), {rows}, at::kLong);
  labels[1].fill_(kIgnoredLabel);
  const at::Tensor logits32 = leaf(logits);
  const at::Tensor expected = ops::cross_entropy(logits32, labels, options);
  const cuda::CrossEntropyArguments arguments{
      logits.size(1), static_cast<float>(options.label_smoothing),
      static_cast<float>(options.z_loss), static_cast<float>(options.soft_cap)};
  at::Tensor loss = at::empty({rows});
  at::Tensor lse = at::empty({rows});
  at::Tensor scale = at::full_like(loss.narrow(0, 0, 1), 0.25);
  at::Tensor grad = unwritten_like(logits);
  at::Tensor in_place = logits.clone();
  with_type(logits.scalar_type(), [&]<class T>(T*) {
    const auto blocks = static_cast<unsigned>(rows);
    cuda::launch_on_cpu(blocks, cuda::kBlock, 0, [&] {
      cuda::cross_entropy_forward_kernel<N>(arguments, in<T>(logits), in<std::int64_t>(labels),
                                            out<float>(loss), out<float>(lse));
    });
    for (at::Tensor* target : {&grad, &in_place}) {
      const at::Tensor& from = target == &grad ? logits : in_place;
      cuda::launch_on_cpu(blocks, cuda::kBlock, 0, [&] {
        cuda::cross_entropy_backward_kernel<N>(arguments, in<T>(from), in<std::int64_t>(labels),
                                               in<float>(lse), in<float>(scale), out<T>(*target));
      });
    }
  });
  expect_close("cross_entropy", loss.sum(), expected.detach());
  expect_close("cross_entropy dlogits", grad,
               gradient(expected, logits32, scale[0]).to(logits.scalar_type()));
  EXPECT_TRUE(grad.equal(in_place));
}

TEST_P(CudaKernels, CrossEntropyMatchesTheReference) {
  check_cross_entropy<1>(random({5, 77}) * 4, {});
  check_cross_entropy<4>(random({4, 3000}) * 4, {0.1, 1e-3, 0});
  check_cross_entropy<1>(random({3, 1027}) * 20, {0, 0, 30});
  check_cross_entropy<1>(random({3, 513}) + 1000, {0.2, 0, 0});  // no overflow of the exponential
}

template <int Rows, int N>
void check_decode_linear(const at::Tensor& x, const at::Tensor& weight, bool extras) {
  const std::int64_t out_size = weight.size(0);
  const at::Tensor bias = extras ? at::randn({out_size}) : at::Tensor();
  const at::Tensor scale = extras ? at::rand({out_size}) : at::Tensor();
  const auto floats = [](const at::Tensor& t) { return t.defined() ? in<float>(t) : nullptr; };
  at::Tensor y = unwritten_like(at::empty({Rows, out_size}, x.options()));
  const cuda::DecodeArguments arguments{x.size(1), out_size, floats(scale), floats(bias)};
  constexpr int kRowsOfABlock = cuda::kBlock / cuda::kWarp * cuda::kWeightRows;
  const auto blocks = static_cast<unsigned>((out_size + kRowsOfABlock - 1) / kRowsOfABlock);
  with_type(x.scalar_type(), [&]<class T>(T*) {
    const auto launch = [&]<class W>(W*) {
      cuda::launch_on_cpu(blocks, cuda::kBlock, 0, [&] {
        cuda::decode_linear_kernel<Rows, N>(arguments, in<T>(x), in<W>(weight), out<T>(y));
      });
    };
    if (weight.scalar_type() == at::kChar)
      launch(static_cast<std::int8_t*>(nullptr));
    else
      with_type(weight.scalar_type(), launch);
  });
  expect_close("decode_linear", y,
               ops::decode_linear(x.to(kFloat), weight.to(kFloat), bias, scale));
}

TEST_P(CudaKernels, DecodeLinearMatchesTheReference) {
  check_decode_linear<1, 4>(random({1, 576}), random({33, 576}), false);
  check_decode_linear<2, 1>(random({2, 77}), random({5, 77}), true);
  check_decode_linear<4, 4>(random({4, 1040}), at::randn({18, 1040}), true);
  const at::Tensor codes = at::randint(-127, 128, {35, 592}, at::kChar);
  check_decode_linear<1, 16>(random({1, 592}), codes, true);
  check_decode_linear<4, 1>(random({4, 592}), codes, true);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaKernels, ::testing::Values(kFloat, kBFloat16, kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

using SimtOnCpuDeathTest = ::testing::Test;

TEST(SimtOnCpuDeathTest, FindsABarrierThatNotAllThreadsReach) {
  const auto kernel = [] {
    if (threadIdx.x < 32) __syncthreads();
  };
  EXPECT_DEATH(cuda::launch_on_cpu(1, 64, 0, kernel), "never reach");
}

TEST(SimtOnCpuDeathTest, FindsAShuffleWithAMissingLane) {
  const auto kernel = [] {
    if (threadIdx.x != 5) __shfl_xor_sync(cuda::kAllLanes, 1.0F, 1);
  };
  EXPECT_DEATH(cuda::launch_on_cpu(1, 32, 0, kernel), "never reach");
}

}  // namespace
}  // namespace espalier
