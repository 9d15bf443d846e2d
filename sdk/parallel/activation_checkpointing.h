#pragma once

#include <memory>
#include <vector>

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

/// Lets every block of a model's towers run so; prologue and epilogue are small and run as they
/// are.
ESPALIER_API std::shared_ptr<BlockRunner> checkpointing_runner(Model& model);

}  // namespace espalier::parallel
