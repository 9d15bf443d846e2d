// What is learnt does not depend on how samples share rows.
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/max.h>
#include <gtest/gtest.h>

#include "engine/data/loader.h"
#include "engine/run/component_library.h"
#include "engine/run/run_data.h"
#include "engine/run/score.h"
#include "support/datasets.h"

namespace espalier {
namespace {

using testing::open_dataset;
using testing::table_of;

constexpr std::int64_t kSamples = 24;
constexpr double kLossLimit = 1e-6;      // TOLERANCES.md: packing against the same run without
constexpr double kGradientLimit = 1e-4;  // of the largest of the tensor

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

class PackedRows : public ::testing::TestWithParam<std::tuple<RowKind, bool>> {};

TEST_P(PackedRows, LossAndGradientsAreThoseOfRowsOfTheirOwn) {
  ComponentLibrary library({testing::environment("ESPALIER_TEST_BUILD") + "/../lib/plugins"});
  ModelLoadOptions options;
  options.compute_dtype = "float32";
  const LoadedModel loaded =
      library.from_pretrained(testing::fixture_path("models/llama"), options);
  const auto dataset = open_dataset(
      "mock",
      table_of(
          {{"vocab_size", 64}, {"seq_length", 30}, {"min_length", 3}, {"num_samples", kSamples}}),
      {});
  const auto scored = [&](RowOptions rows, bool padding_free, double& label_tokens) {
    LoaderOptions loading;
    loading.rows_per_step = kSamples;
    loading.rows_per_batch = kSamples;
    loading.rows = rows;
    loading.collate.padding_free = padding_free;
    DataLoader loader(dataset, loading);
    const StepBatches step = loader.next();
    EXPECT_EQ(step.batches.size(), 1U);
    const Batch& batch = step.batches.front();
    label_tokens = static_cast<double>(batch.num_label_tokens);
    const std::map<std::string, at::Tensor> input(batch.tensors.begin(), batch.tensors.end());
    return score(*loaded.model, input, {.gradients = true, .shifted_labels = batch.labels_shifted});
  };
  double expected_tokens = 0;
  double tokens = 0;
  const auto expected = scored({}, false, expected_tokens);
  const auto [kind, padding_free] = GetParam();
  const auto found = scored({kind, 40, kSamples}, padding_free, tokens);
  EXPECT_EQ(tokens, expected_tokens);
  const double loss = expected.at("loss").item<double>();
  EXPECT_NEAR(found.at("loss").item<double>(), loss, kLossLimit * loss);
  std::size_t gradients = 0;
  for (const auto& [name, tensor] : expected) {
    if (!name.starts_with("grad.")) continue;
    ++gradients;
    EXPECT_LE(largest(found.at(name) - tensor), kGradientLimit * largest(tensor)) << name;
  }
  EXPECT_GT(gradients, 10U);
}

INSTANTIATE_TEST_SUITE_P(Ways, PackedRows,
                         ::testing::Values(std::tuple(RowKind::kSequential, false),
                                           std::tuple(RowKind::kBestFit, false),
                                           std::tuple(RowKind::kByLength, false),
                                           std::tuple(RowKind::kSample, true),
                                           std::tuple(RowKind::kBestFit, true)));

TEST(ValidationRows, ArePackedInOrderAndSharedByRanks) {
  constexpr std::int64_t kCapacity = 70;
  const auto dataset = open_dataset(
      "mock",
      table_of(
          {{"vocab_size", 64}, {"seq_length", 30}, {"min_length", 3}, {"num_samples", kSamples}}),
      {});
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    const Sample sample = dataset->get(i);
    tokens.insert(tokens.end(), sample.input_ids.begin(), sample.input_ids.end());
  }
  LoaderOptions options;
  options.rows_per_batch = 2;
  EXPECT_EQ(batches_in_order(*dataset, options).size(), static_cast<std::size_t>(kSamples / 2));
  options.rows = {RowKind::kSequential, kCapacity, 1};
  options.max_length = kCapacity;
  options.share_count = 3;
  std::vector<std::vector<Batch>> shares;
  std::size_t batches = 0;
  for (options.share_index = 0; options.share_index < options.share_count; ++options.share_index) {
    shares.push_back(batches_in_order(*dataset, options));
    EXPECT_EQ(shares.back().size(), shares.front().size());
    for (const Batch& batch : shares.back()) batches += batch.filler ? 0 : 1;
  }
  EXPECT_LE(batches, static_cast<std::size_t>(kSamples / 4));
  std::vector<std::int64_t> seen;
  for (std::size_t i = 0; i < batches; ++i) {
    const Batch& batch = shares[i % shares.size()][i / shares.size()];
    EXPECT_LE(batch.get("input_ids").size(1), kCapacity);
    const at::Tensor ids = make_layout({batch.tensors}).flatten(batch.get("input_ids"));
    seen.insert(seen.end(), ids.data_ptr<std::int64_t>(),
                ids.data_ptr<std::int64_t>() + ids.numel());
  }
  EXPECT_EQ(seen, tokens);
}

}  // namespace
}  // namespace espalier
