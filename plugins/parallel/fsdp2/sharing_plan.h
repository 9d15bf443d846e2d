#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/nn/linear.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/parameter.h"
#include "espalier/sdk/share.h"

namespace espalier {

/// How ranks share a linear or a table of token vectors.
enum class SharingStyle {
  kWhole,        ///< every rank has all of it
  kOutputs,      ///< some of the outputs, which go on as they are ("colwise")
  kInputs,       ///< some of the inputs, which come so; the sum is formed after it ("rowwise")
  kOutputsJoin,  ///< some of the outputs, which are joined after it ("colwise_rep")
  kInputsSplit,  ///< some of the inputs, cut before it ("rowwise_rep")
};

nn::LinearSide side_of(SharingStyle style);

/// How one dimension of a parameter is cut: what each rank has of it.
struct TensorCut {
  std::size_t dimension = 0;
  std::vector<std::vector<IndexRun>> of_ranks;
  int rank = 0;
  int copies = 1;  ///< neighbouring ranks that have the same: fewer key heads than ranks

  const std::vector<IndexRun>& runs() const { return of_ranks[static_cast<std::size_t>(rank)]; }
  std::int64_t count(int of_rank) const;
};

/// Who has what of a model.
struct SharingPlan {
  struct Entry {
    nn::Linear* linear = nullptr;
    SharingStyle style = SharingStyle::kWhole;
    bool in_block = false;  ///< of a tower
    bool is_head = false;
  };
  std::vector<Entry> linears;
  std::vector<nn::Embedding*> tables;  ///< those that are cut by the vocabulary
  /// Of parameters that are not whole: the model's own.
  std::unordered_map<const Parameter*, TensorCut> cuts;
  /// Parameters of adapters that stand in for parameters of the model, and for which.
  std::unordered_map<const Parameter*, const Parameter*> stand_ins;

  const TensorCut* cut(const Parameter& parameter) const;
};

/// Which ranks plan.
struct SharingRanks {
  int rank = 0;
  int size = 1;
  bool sequence_parallel = false;
};

/// Name of a module with '*' and '?' -> style, as in the recipe.
using SharingPatterns = std::map<std::string, std::string>;

/// Follows the logical axes of the parameters: what makes heads or the inner dimension of an MLP is
/// cut by outputs, what reads them by inputs; tables of token vectors and the output head by the
/// vocabulary. `patterns` change single modules. Norms, routers, experts and position tables stay
/// whole. Adds a problem for everything that these ranks can't share, and for patterns that mean
/// nothing; the plan is of use only without problems.
SharingPlan make_sharing_plan(Model& model, const SharingRanks& ranks,
                              const SharingPatterns& patterns, ProblemList& problems);

}  // namespace espalier
