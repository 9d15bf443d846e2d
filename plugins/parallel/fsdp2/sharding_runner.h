#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "espalier/sdk/model.h"
#include "sharded_group.h"

namespace espalier {

/// How many groups ahead are gathered while one computes.
struct PrefetchDepth {
  std::size_t forward = 0;
  std::size_t backward = 0;
};

/// Runs blocks with their parameters gathered: before the forward pass, and again before the
/// backward pass, after which the gradients leave for the ranks that own them. Prologue, epilogue
/// and head are the root group, which stays gathered from the beginning of a forward pass to the
/// end of the step.
class ShardingRunner final : public BlockRunner {
 public:
  /// Computes a block; the place where activation checkpointing comes in.
  using RunBlock = std::function<BlockState(Block&, BlockState, const BatchContext&)>;

  ShardingRunner(std::unique_ptr<ShardedGroup> root,
                 std::vector<std::pair<const Block*, std::unique_ptr<ShardedGroup>>>&& groups,
                 PrefetchDepth prefetch, RunBlock run_block);

  BlockState run(Block& block, BlockState state, const BatchContext& context) override;
  std::shared_ptr<void> head_scope(
      const std::vector<std::shared_ptr<Parameter>>& parameters) override;

  /// Whether gradients leave for their owners in the backward passes that follow.
  void set_reduce(bool reduce) { reduce_ = reduce; }
  void finish_step();
  void free_all();

  /// Called by the backward pass of a block's outputs and inputs.
  void begin_backward(std::size_t group);
  void end_backward(std::size_t group, std::vector<at::Tensor> gradients);
  void end_root_backward(std::vector<at::Tensor> gradients);
  void end_head_backward(std::vector<at::Tensor> gradients);

 private:
  void expose_root(std::int64_t group);

  std::unique_ptr<ShardedGroup> root_;
  std::vector<std::unique_ptr<ShardedGroup>> groups_;  ///< in the order of the blocks
  std::vector<int> in_backward_;                       ///< passes through each group under way
  std::unordered_map<const Block*, std::size_t> group_of_;
  PrefetchDepth prefetch_;
  RunBlock run_block_;
  bool reduce_ = true;
  int root_passes_ = 0;               ///< forward passes whose backward pass has not ended
  ShardedGroup* reducing_ = nullptr;  ///< whose sums travel; the one before has arrived
};

}  // namespace espalier
