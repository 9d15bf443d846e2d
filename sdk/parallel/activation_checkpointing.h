#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "espalier/base/config_schema.h"
#include "espalier/base/error.h"
#include "espalier/sdk/model.h"

namespace espalier::parallel {

/// Runs a block so that of its activations only the inputs are kept; the backward pass computes the
/// block once more and gets the same bits, because all randomness is a function of the place in the
/// run. Costs one more forward pass of the block, saves everything that it would have kept.
///
/// What modules multiply with (`Parameter::computed`) at the time of the call is used again in the
/// backward pass, so a strategy that gathers parameters has to have them gathered then. Leaves get
/// their gradients as usual.
/// `added` are the parameters that adapters gave the model, of which the block may use some.
ESPALIER_API BlockState run_checkpointed(Block& block, BlockState state,
                                         const BatchContext& context,
                                         const std::vector<std::shared_ptr<Parameter>>& added);

/// Of which blocks the activations are not kept, among those of a model's towers; prologue and
/// epilogue are small and run as they are.
struct ESPALIER_API CheckpointingConfig {
  std::vector<std::string> blocks;  ///< names with '*' and '?'; empty: all
  std::int64_t every = 1;           ///< of those, the first and every so manieth after it
  std::string part = "block";       ///< of a block: all of it, its attention or its MLP

  static ConfigSchema<CheckpointingConfig> schema();
};

/// Adds a problem for a choice of blocks where activation checkpointing is off.
ESPALIER_API void check_checkpointing(bool on, const CheckpointingConfig& config,
                                      ProblemList& problems);

/// The choice made for a model; outlived by it.
class ESPALIER_API CheckpointedBlocks {
 public:
  /// Throws Error(kBadInput) for a pattern that matches no block, Error(kUnsupported) for a part of
  /// blocks that have none.
  CheckpointedBlocks(Model& model, const CheckpointingConfig& config);

  /// Runs a block as was chosen for it. `as` takes its place: a block around it, whose parts are
  /// not looked at.
  BlockState run(Block& block, BlockState state, const BatchContext& context,
                 Block* as = nullptr) const;
  bool cuts_blocks() const { return cuts_blocks_; }

 private:
  std::unordered_map<const Block*, Block*> chosen_;  ///< block -> itself, or its part
  std::vector<std::shared_ptr<Parameter>> added_;
  bool cuts_blocks_ = false;
};

/// Lets the blocks of a model run so.
ESPALIER_API std::shared_ptr<BlockRunner> checkpointing_runner(
    Model& model, const CheckpointingConfig& config = {});

}  // namespace espalier::parallel
