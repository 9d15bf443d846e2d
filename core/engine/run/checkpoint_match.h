#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/sdk/model.h"

namespace espalier {

/// Lets the mappings take the names that the checkpoint has: those of a base model, which lack the
/// first component, and the head's where a tied weight lies under it alone.
void match_names(ModelParts& parts, const CheckpointReader& checkpoint);

/// Compares the checkpoint with what the model needs; throws Error(kBadInput) with everything that
/// is missing, unexpected, of another shape or no floating point numbers. Tensors of the modules
/// `may_be_new` may be missing; those that are, are returned.
std::vector<std::string> check_checkpoint(const ModelParts& parts,
                                          const CheckpointReader& checkpoint,
                                          const std::vector<std::string>& may_be_new = {});

/// Whether a model whose head is tied to the embedding finds another head in the checkpoint.
bool has_head_of_its_own(Model& model, const CheckpointReader& checkpoint);

/// Whether all tensors of a parameter are in the checkpoint.
bool is_stored(const DiskMapping& mapping, const CheckpointReader& checkpoint);

/// The dtype that most numbers of the checkpoint have.
at::ScalarType prevailing_dtype(const ModelParts& parts, const CheckpointReader& checkpoint);

/// How one parameter is stored: as in the checkpoint, or as `requested`; but what the checkpoint
/// keeps in a wider dtype than the rest (a router's bias in float32) is not narrowed.
at::ScalarType dtype_of_parameter(const DiskMapping& mapping, const CheckpointReader& checkpoint,
                                  bool as_stored, at::ScalarType requested,
                                  at::ScalarType prevailing);

}  // namespace espalier
