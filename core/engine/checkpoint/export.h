#pragma once

#include <functional>
#include <string>

#include "engine/parallel/rank_agreement.h"
#include "engine/run/model_loader.h"
#include "espalier/sdk/parallel_strategy.h"

namespace espalier {

/// The part of the parameter with an index into the model's that lies in a box, on the CPU.
using PartReader = std::function<at::Tensor(std::size_t index, const ShardPiece& piece)>;

/// Writes the model as a Hugging Face folder: weights under their published names and layout,
/// config.json, and the generation config, tokenizer and chat template of the folder that it was
/// loaded from. `folder` appears whole or not at all; what was there is replaced. Throws
/// Error(kIo). Values are read tensor by tensor of the disk; without `read` the parameters have
/// them.
ESPALIER_API void export_model(const LoadedModel& loaded, const std::string& folder,
                               const PartReader& read = {});

/// The same by all ranks at once, each of which puts what it holds into its place in the files:
/// nothing is gathered or sent. The folder is on a file system that they share. Collective.
void export_from_ranks(const LoadedModel& loaded, const std::string& folder,
                       const RankAgreement& ranks, const ParallelStrategy& strategy);

/// Writes the model's adapter alone, in PEFT's format, with the tokenizer of the base. `base_model`
/// is the name of the base in the adapter's config; `value` gives whole parameters.
ESPALIER_API void export_adapter(const LoadedModel& loaded, const std::string& folder,
                                 const std::string& base_model,
                                 const WholeValue& value = held_value);

}  // namespace espalier
