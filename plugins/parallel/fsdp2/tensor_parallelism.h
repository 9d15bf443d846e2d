#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "espalier/sdk/communicator.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// A run of indices of a dimension.
struct IndexRun {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

/// What a rank holds of a parameter that is cut along one dimension: a run of each segment.
struct TensorCut {
  std::size_t dimension = 0;
  std::vector<IndexRun> runs;
};

/// Shares the matrices of every layer among ranks, by the logical axes of their parameters: a
/// Linear that makes heads or the inner dimension of an MLP holds some of its rows (column
/// parallel), one that reads them the same columns (row parallel), and the sum over the ranks is
/// formed after it. Embedding, norms, routers, experts and head are whole on every rank. With
/// sequence parallelism the residual stream and the norms see a run of the tokens only: the sum
/// becomes a reduce-scatter, and what column-parallel layers read is gathered.
///
/// Communication of a layer and pass, with t tokens of width h: an all-reduce of t * h elements
/// after attention and one after the MLP, forward and backward; with sequence parallelism the same
/// amount as a reduce-scatter and an all-gather, and the activations between layers are held once.
class TensorParallelism {
 public:
  TensorParallelism(std::shared_ptr<Communicator> ranks, bool sequence_parallel);
  TensorParallelism(const TensorParallelism&) = delete;
  TensorParallelism& operator=(const TensorParallelism&) = delete;

  /// Adds a problem for everything of the model that `size` ranks can't share.
  static void check(Model& model, int size, bool sequence_parallel, ProblemList& problems);
  /// Cuts the parameters and sets the seats of the linears.
  void apply(Model& model);

  /// nullptr for a parameter that is whole on every rank.
  const TensorCut* cut(const Parameter& parameter) const;
  /// Adds up gradients that each rank has a part of.
  void finish_gradients();
  /// The whole of a parameter from what this rank holds of it; collective.
  at::Tensor assemble(const Parameter& parameter, const at::Tensor& local) const;
  int rank() const { return ranks_->rank(); }
  Communicator& ranks() { return *ranks_; }

  /// Runs a block's forward pass, or its recomputation.
  BlockState run_block(Block& block, BlockState state, const BatchContext& context);
  /// Cuts the tokens of the state after the prologue, and joins them before the epilogue, where
  /// sequence parallelism is on; runs everything through `inner`.
  std::shared_ptr<BlockRunner> around(Model& model, std::shared_ptr<BlockRunner> inner);

  // The seats; used by the backward passes too.
  at::Tensor enter(const at::Tensor& input);
  at::Tensor leave(const at::Tensor& output);

 private:
  void cut_parameter(Parameter& parameter, std::size_t dimension);

  std::shared_ptr<Communicator> ranks_;
  bool sequence_parallel_;
  std::unordered_map<const Parameter*, TensorCut> cuts_;
  std::vector<std::shared_ptr<Parameter>> partial_;  ///< gradients are parts of a sum
  std::int64_t tokens_ = 0;                          ///< of the pass that runs
  at::Tensor entered_;  ///< linears that read the same tensor share what was made of it
  at::Tensor entered_as_;
};

}  // namespace espalier
