#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "espalier/sdk/communicator.h"
#include "espalier/sdk/model.h"
#include "espalier/sdk/parallel_strategy.h"
#include "sharing_plan.h"

namespace espalier {

/// Shares the matrices of a model among ranks, as a SharingPlan says: a Linear that makes heads or
/// the inner dimension of an MLP holds some of its rows (column parallel), one that reads them the
/// same columns (row parallel), and the sum over the ranks is formed after it. Tables of token
/// vectors and the output head are cut by the vocabulary; losses see this rank's logits. Norms,
/// routers and experts are whole on every rank. With sequence parallelism the residual stream and
/// the norms see a run of the tokens only: the sum becomes a reduce-scatter, and what
/// column-parallel layers read is gathered. What adapters put beside a shared linear is cut along
/// the side on which that is.
///
/// Communication of a layer and pass, with t tokens of width h: an all-reduce of t * h elements
/// after attention and one after the MLP, forward and backward; with sequence parallelism the same
/// amount as a reduce-scatter and an all-gather, and the activations between layers are held once.
/// Besides, an all-reduce of t * h elements after the table forward, one before the head backward,
/// and two or three numbers for each labelled token.
class TensorParallelism {
 public:
  TensorParallelism(std::shared_ptr<Communicator> ranks, bool sequence_parallel,
                    SharingPatterns patterns);
  TensorParallelism(const TensorParallelism&) = delete;
  TensorParallelism& operator=(const TensorParallelism&) = delete;

  /// Adds a problem for everything of the model that these ranks can't share.
  void check(Model& model, ProblemList& problems) const;
  /// Cuts the parameters and sets the seats of the linears. The model has passed `check`.
  void apply(Model& model);

  /// nullptr for a parameter that is whole on every rank.
  const TensorCut* cut(const Parameter& parameter) const;
  /// Whether this rank is the one that counts and writes what it holds of the parameter.
  bool owns(const Parameter& parameter) const;
  /// Adds up gradients that each rank has a part of.
  void finish_gradients();
  /// The whole of a parameter from what this rank holds of it; collective.
  at::Tensor assemble(const Parameter& parameter, const at::Tensor& local) const;
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
  SharingRanks sharing_ranks() const;
  void cut_parameter(Parameter& parameter, const TensorCut& cut);
  void share_linear(const SharingPlan::Entry& entry);
  void share_scales(nn::Linear& linear, const TensorCut& cut);
  void share_extensions(nn::Linear& linear, const nn::LinearShare& share, const TensorCut& cut);
  void collect_partial(Model& model);

  std::shared_ptr<Communicator> ranks_;
  bool sequence_parallel_;
  SharingPatterns patterns_;
  std::unordered_map<const Parameter*, TensorCut> cuts_;
  /// Gradients are parts of a sum over all ranks, or over those that have a copy of the same cut.
  std::vector<std::shared_ptr<Parameter>> partial_;
  std::int64_t rows_ = 0;  ///< of the hidden states of the pass that runs
  at::Tensor entered_;     ///< linears that read the same tensor share what was made of it
  at::Tensor entered_as_;
};

}  // namespace espalier
