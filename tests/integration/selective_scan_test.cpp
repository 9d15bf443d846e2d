// The ops of state space and mixture families, held against plain formulas that autograd
// differentiates.
#include "espalier/ops/selective_scan.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "espalier/base/error.h"
#include "espalier/ops/grouped_linear.h"

namespace espalier {
namespace {

constexpr double kLimit = 1e-5;  // of the largest: kernels against their reference in float32

void expect_close(const at::Tensor& actual, const at::Tensor& expected, const char* what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const at::Tensor wanted = expected.to(at::kDouble);
  const double largest = wanted.abs().max().item<double>();
  EXPECT_LE((actual.to(at::kDouble) - wanted).abs().max().item<double>(), kLimit * largest) << what;
}

at::Tensor leaf(const at::Tensor& values) {
  return values.detach().clone().set_requires_grad(true);
}

/// The recurrence token by token, in float64.
struct PlainScan {
  at::Tensor y;
  at::Tensor states;
};

PlainScan plain_scan(const ops::ScanInputs& in, const std::vector<std::int64_t>& starts) {
  const std::int64_t heads = in.x.size(1);
  const std::int64_t repeats = heads / in.b.size(1);
  const auto wide = [&](const at::Tensor& t) { return t.repeat_interleave(repeats, 0); };
  std::vector<at::Tensor> ys;
  std::vector<at::Tensor> states;
  for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
    at::Tensor state = in.initial.defined()
                           ? in.initial[static_cast<std::int64_t>(d)]
                           : at::zeros({heads, in.x.size(2), in.b.size(2)}, in.x.options());
    for (std::int64_t t = starts[d]; t < starts[d + 1]; ++t) {
      const at::Tensor decay = at::exp(in.dt[t].unsqueeze(-1) * in.a).unsqueeze(1);
      const at::Tensor input = (in.dt[t].unsqueeze(-1) * in.x[t]).unsqueeze(-1);
      state = decay * state + input * wide(in.b[t]).unsqueeze(1);
      ys.push_back((state * wide(in.c[t]).unsqueeze(1)).sum(-1));
    }
    states.push_back(state);
  }
  return {at::stack(ys), at::stack(states)};
}

struct ScanCase {
  const char* name;
  std::int64_t heads, channels, state, groups;
  bool shared_decay;
  std::vector<std::int64_t> starts;
};

class SelectiveScan : public ::testing::TestWithParam<ScanCase> {};

TEST_P(SelectiveScan, IsTheRecurrenceAndItsGradients) {
  const ScanCase& how = GetParam();
  at::manual_seed(17);
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const std::int64_t tokens = how.starts.back();
  const std::vector<at::Tensor> values = {
      at::randn({tokens, how.heads, how.channels}, options), at::rand({tokens, how.heads}, options),
      -at::rand({how.heads, how.shared_decay ? 1 : how.state}, options),
      at::randn({tokens, how.groups, how.state}, options),
      at::randn({tokens, how.groups, how.state}, options)};
  std::vector<at::Tensor> exact;
  std::vector<at::Tensor> fast;
  for (const at::Tensor& value : values) {
    exact.push_back(leaf(value));
    fast.push_back(leaf(value.to(at::kFloat)));
  }
  const PlainScan plain =
      plain_scan({exact[0], exact[1], exact[2], exact[3], exact[4], {}}, how.starts);
  const ops::ScanOutputs scan =
      ops::selective_scan({fast[0], fast[1], fast[2], fast[3], fast[4], {}}, how.starts);
  expect_close(scan.y, plain.y, "y");
  expect_close(scan.states, plain.states, "states");

  const at::Tensor weights = at::randn(plain.y.sizes(), options);
  const at::Tensor state_weights = at::randn(plain.states.sizes(), options);
  ((plain.y * weights).sum() + (plain.states * state_weights).sum()).backward();
  ((scan.y * weights).sum() + (scan.states * state_weights).sum()).backward();
  const char* const names[] = {"dx", "ddt", "da", "db", "dc"};
  for (std::size_t i = 0; i < exact.size(); ++i)
    expect_close(fast[i].grad(), exact[i].grad(), names[i]);
}

INSTANTIATE_TEST_SUITE_P(Shapes, SelectiveScan,
                         ::testing::Values(ScanCase{"Mamba", 37, 1, 5, 1, false, {0, 150}},
                                           ScanCase{"Mamba2", 6, 7, 5, 3, true, {0, 70}},
                                           ScanCase{
                                               "Documents", 4, 3, 8, 2, true, {0, 1, 65, 129, 131}},
                                           ScanCase{"OneToken", 2, 2, 3, 1, false, {0, 1}}),
                         [](const auto& info) { return info.param.name; });

TEST(SelectiveScanState, GoesOnWhereADocumentStopped) {
  const std::vector<at::Tensor> v = {at::randn({90, 4, 3}), at::rand({90, 4}), -at::rand({4, 6}),
                                     at::randn({90, 2, 6}), at::randn({90, 2, 6})};
  const auto part = [&](std::int64_t begin, std::int64_t count, const at::Tensor& initial) {
    return ops::selective_scan(
        {v[0].narrow(0, begin, count), v[1].narrow(0, begin, count), v[2],
         v[3].narrow(0, begin, count), v[4].narrow(0, begin, count), initial},
        {0, count});
  };
  const ops::ScanOutputs whole = part(0, 90, {});
  const ops::ScanOutputs head = part(0, 33, {});
  const ops::ScanOutputs tail = part(33, 57, head.states);
  expect_close(at::cat({head.y, tail.y}), whole.y, "y");
  expect_close(tail.states, whole.states, "states");
}

TEST(GroupedLinear, IsOneLinearMapAGroupAndLeavesOthersAlone) {
  const at::Tensor x = leaf(at::randn({9, 5}));
  const at::Tensor weight = leaf(at::randn({4, 3, 5}));
  const at::Tensor bias = leaf(at::randn({4, 3}));
  const at::Tensor offsets = at::tensor(std::vector<std::int64_t>{0, 2, 2, 9, 9}, at::kLong);
  // A group without rows is not read: not-a-numbers in its weights change nothing.
  at::Tensor poisoned = weight.detach().clone();
  poisoned[1].fill_(NAN);
  poisoned[3].fill_(NAN);
  const at::Tensor used = leaf(poisoned);
  const at::Tensor y = ops::grouped_linear(x, used, bias, offsets);
  const at::Tensor px = leaf(x);
  const at::Tensor pw = leaf(weight);
  const at::Tensor pb = leaf(bias);
  const at::Tensor plain = at::cat(
      {px.narrow(0, 0, 2).matmul(pw[0].t()) + pb[0], px.narrow(0, 2, 7).matmul(pw[2].t()) + pb[2]});
  expect_close(y, plain, "y");
  const at::Tensor g = at::randn({9, 3});
  (y * g).sum().backward();
  (plain * g).sum().backward();
  expect_close(x.grad(), px.grad(), "dx");
  expect_close(used.grad(), pw.grad(), "dw");
  expect_close(bias.grad(), pb.grad(), "db");
  EXPECT_EQ(used.grad()[1].abs().sum().item<double>(), 0.0);
}

TEST(GroupedLinear, KeepsGradientsInTheDtypeOfTheWeights) {
  const at::Tensor x = leaf(at::randn({4, 5}));
  const at::Tensor weight = leaf(at::randn({2, 3, 5}).to(at::kBFloat16));
  const at::Tensor offsets = at::tensor(std::vector<std::int64_t>{0, 1, 4}, at::kLong);
  const at::Tensor y = ops::grouped_linear(x, weight, {}, offsets);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  y.sum().backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kBFloat16);
  expect_close(weight.grad()[0][0], x.detach()[0].to(at::kBFloat16), "dw");
}

}  // namespace
}  // namespace espalier
