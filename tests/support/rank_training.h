#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "engine/run/component_library.h"

namespace espalier::testing {

/// A small training: what is trained, how, and by which strategy.
struct RankTraining {
  std::string strategy;
  std::string options;  ///< "key=value,key=value", integers and booleans; or a JSON object
  std::string model = "llama";
  std::string frozen;  ///< pattern
  std::int64_t rows_per_batch = 1;
  std::string dtype = "auto";
  std::string config = {};   ///< JSON: overrides of the model's config, which then starts at random
  std::string adapter = {};  ///< JSON with its "type"
  std::string loss = "masked_cross_entropy";
  std::string loss_options = {};  ///< JSON
  std::string optimizer = {};     ///< empty: one that fits the model
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const RankTraining& setting, std::ostream* out);

struct RankResult {
  std::vector<double> losses;
  std::vector<double> norms;
  std::map<std::string, at::Tensor> weights;  ///< of the model and of an adapter, whole
  std::int64_t own_elements = 0;    ///< of the model's parameters that this rank holds after a step
  std::int64_t whole_elements = 0;  ///< of the model
  std::int64_t bytes_read = 0;      ///< of a model that was loaded in parts
  std::int64_t state_bytes = 0;     ///< of the optimizer, on this rank
};

/// The results of all ranks of a world of threads, each after some steps of unequal rows with a
/// validation between two of them. Throws what the strategy refuses.
std::vector<RankResult> train_ranks(ComponentLibrary& library, const RankTraining& setting,
                                    int ranks);

struct RankComparison {
  RankResult alone;
  std::vector<RankResult> ranks;
};

/// Trains in one process and on `ranks`, and expects of every rank what one process learns: loss
/// within 1e-6 at the first step, then 1e-5; norm and weights within 1e-4.
RankComparison expect_same_training(const RankTraining& setting, int ranks);

}  // namespace espalier::testing
