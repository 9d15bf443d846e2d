// What documents begin with alike is computed once, and nothing else changes.
#include "espalier/nn/shared_prefixes.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <map>

#include "engine/run/component_library.h"
#include "engine/run/score.h"
#include "espalier/nn/linear.h"
#include "espalier/parallel/activation_checkpointing.h"
#include "fixture_path.h"

namespace espalier {
namespace {

using nn::share_prefixes;
using testing::fixture_path;
using Ids = std::vector<std::int64_t>;
using Tensors = std::map<std::string, at::Tensor>;

at::Tensor integers(const Ids& values) { return at::tensor(values, at::kLong); }

TokenLayout layout_of(const Ids& starts) {
  TokenLayout layout;
  layout.document_starts = starts;
  return layout;
}

TEST(SharedPrefixes, AreFoundFromTheStartOfDocumentsOn) {
  const SharedRows shared =
      share_prefixes(layout_of({0, 4, 7, 11, 12}), integers({1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 3}),
                     integers({0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 0}));
  EXPECT_TRUE(shared.row_of_token.equal(integers({0, 1, 2, 3, 0, 1, 4, 0, 1, 2, 3, 5})));
  EXPECT_TRUE(shared.token_of_row.equal(integers({0, 1, 2, 3, 6, 11})));
}

TEST(SharedPrefixes, OtherPositionsAreOtherTokens) {
  const Ids ids = {1, 2, 3, 1, 2, 4};
  EXPECT_TRUE(share_prefixes(layout_of({0, 3, 6}), integers(ids), integers({0, 1, 2, 0, 1, 2}))
                  .row_of_token.equal(integers({0, 1, 2, 0, 1, 3})));
  EXPECT_FALSE(
      share_prefixes(layout_of({0, 3, 6}), integers(ids), integers({0, 1, 2, 5, 6, 7})).defined());
}

TEST(SharedPrefixes, FewAreNotWorthIt) {
  const at::Tensor ids = at::randint(10, 1000, {64});
  ids[0] = 1;
  ids[32] = 1;
  EXPECT_FALSE(share_prefixes(layout_of({0, 32, 64}), ids, ids * 0).defined());
  EXPECT_FALSE(share_prefixes(layout_of({0, 64}), ids * 0, ids * 0).defined());
  EXPECT_FALSE(share_prefixes(layout_of({0}), ids.narrow(0, 0, 0), ids.narrow(0, 0, 0)).defined());
}

TEST(SharedPrefixes, TheGradientOfARowIsTheSumOverItsTokens) {
  const SharedRows shared{integers({0, 1, 0, 2, 0}), integers({0, 1, 3})};
  const at::Tensor rows = at::randn({3, 2, 4}, at::kDouble).requires_grad_(true);
  const at::Tensor weight = at::randn({5, 2, 4}, at::kDouble);
  const at::Tensor tokens = nn::rows_of_tokens(rows, shared);
  EXPECT_TRUE(tokens.equal(rows.index_select(0, shared.row_of_token)));
  (tokens * weight).sum().backward();
  const at::Tensor sum =
      at::zeros({3, 2, 4}, at::kDouble).index_add_(0, shared.row_of_token, weight);
  EXPECT_TRUE(rows.grad().allclose(sum, 1e-12, 1e-12));

  const at::Tensor all = at::randn({5, 4}, at::kDouble).requires_grad_(true);
  const at::Tensor first = nn::first_tokens(all, shared);
  EXPECT_TRUE(first.equal(all.index_select(0, shared.token_of_row)));
  first.sum().backward();
  EXPECT_TRUE(all.grad().select(1, 0).equal(at::tensor({1., 1., 0., 1., 0.}, at::kDouble)));
}

// Rounded after each addition, a sum of ones in bfloat16 stays at 256.
TEST(SharedPrefixes, GradientsOfSixteenBitsAreSummedInFloat32) {
  const SharedRows shared{at::zeros({300}, at::kLong), integers({0})};
  const at::Tensor row = at::ones({1, 8}, at::kBFloat16).requires_grad_(true);
  nn::rows_of_tokens(row, shared).sum().backward();
  EXPECT_TRUE(row.grad().eq(300).all().item<bool>()) << row.grad();
}

/// Four documents in two rows, which begin with 9, 9, 5 and 7 tokens of the same ones.
Tensors documents() {
  at::manual_seed(3);
  const at::Tensor start = at::randint(3, 90, {1, 9});
  const auto with = [&](std::int64_t shared, std::int64_t own) {
    return at::cat({start.narrow(1, 0, shared), at::randint(3, 90, {1, own})}, 1);
  };
  const at::Tensor ids = at::cat({with(9, 7), with(9, 4), with(5, 3)}, 1);
  const at::Tensor rows = at::cat({ids, at::cat({with(7, 13), at::zeros({1, 17}, at::kLong)}, 1)});
  at::Tensor mask = at::ones(rows.sizes(), at::kLong);
  mask[1].narrow(0, 20, 17).zero_();
  at::Tensor labels = rows.clone();
  labels.masked_fill_(mask.eq(0), kIgnoredLabel);
  return {{"input_ids", rows},
          {"labels", labels},
          {"attention_mask", mask},
          {"cu_seqlens", at::tensor({0, 16, 29, 37, 0, 20, 20, 20}, at::kLong).view({2, 4})}};
}

constexpr std::int64_t kTokens = 37 + 20;
constexpr std::int64_t kRows = kTokens - 9 - 5 - 7;

void expect_same(const Tensors& shared, const Tensors& plain) {
  ASSERT_EQ(shared.size(), plain.size());
  for (const auto& [name, value] : plain) {
    const double scale = value.abs().max().item<double>() + 1e-12;
    EXPECT_LE((shared.at(name) - value).abs().max().item<double>() / scale, 2e-5) << name;
  }
}

TEST(SharedPrefixes, EveryLinearSeesEachRowOnce) {
  ComponentLibrary library;
  const LoadedModel loaded = library.from_pretrained(fixture_path("models/llama"));
  std::map<std::int64_t, int> seen;  // rows -> linears
  for (nn::Linear* linear : loaded.model->parts().linears) {
    linear->redistribution().input = [&seen](const at::Tensor& x) {
      ++seen[x.size(0)];
      return x;
    };
  }
  const ModelInput input = model_input(documents());
  EXPECT_EQ(loaded.model->rows(input), kTokens);
  loaded.model->set_share_prefixes(true);
  EXPECT_EQ(loaded.model->rows(input), kRows);
  const ModelOutput output = loaded.model->forward(input);
  EXPECT_EQ(output.hidden.size(0), kTokens);
  EXPECT_EQ(output.layout.tokens(), kTokens);
  EXPECT_EQ(seen, (std::map<std::int64_t, int>{{kRows, 14}}));
}

TEST(SharedPrefixes, LossAndGradientsStay) {
  ComponentLibrary library;
  for (const char* family : {"llama", "gpt2"}) {
    for (const bool recomputed : {false, true}) {
      Tensors results[2];
      for (const bool share : {false, true}) {
        const LoadedModel loaded =
            library.from_pretrained(fixture_path(std::string("models/") + family));
        loaded.model->set_training(true);
        loaded.model->set_share_prefixes(share);
        if (recomputed)
          loaded.model->set_block_runner(parallel::checkpointing_runner(*loaded.model, {}));
        results[share ? 1 : 0] = score(*loaded.model, documents(), {true, true, false});
      }
      SCOPED_TRACE(family);
      expect_same(results[1], results[0]);
    }
  }
}

TEST(SharedPrefixes, AModelThatCannotShareComputesAll) {
  ComponentLibrary library;
  for (const char* family : {"mixtral", "mamba"}) {
    const LoadedModel loaded =
        library.from_pretrained(fixture_path(std::string("families/") + family));
    loaded.model->set_share_prefixes(true);
    EXPECT_EQ(loaded.model->rows(model_input(documents())), kTokens) << family;
  }
}

}  // namespace
}  // namespace espalier
