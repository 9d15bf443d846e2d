#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"
#include "espalier/sdk/parameter.h"

namespace espalier::peft {

/// Prefix of every tensor in PEFT's files that belongs to a module.
inline constexpr const char* kTensorPrefix = "base_model.model.";

/// adapter_config.json of a folder in PEFT's format. Throws Error(kBadInput) when it is missing.
ESPALIER_API Value read_adapter_config(const std::string& folder);

/// Gives the parameters their values from adapter_model.safetensors, each in its entry of `dtypes`.
/// They are on the CPU. Returns the tensors that belong to no parameter and whose names end in
/// ".base_layer.weight": copies of weights of the base that PEFT stores beside targeted embeddings.
/// Everything that is missing, left over, of another shape or not finite is reported in one
/// Error(kBadInput).
ESPALIER_API std::map<std::string, at::Tensor> read_adapter_values(
    const std::string& folder, const std::vector<std::shared_ptr<Parameter>>& parameters,
    const std::vector<DiskMapping>& mappings, const std::vector<at::ScalarType>& dtypes);

}  // namespace espalier::peft
