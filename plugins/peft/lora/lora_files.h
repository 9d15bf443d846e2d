#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "espalier/base/value.h"
#include "espalier/sdk/parameter.h"

namespace espalier::lora {

/// adapter_config.json of a folder in PEFT's format. Throws Error(kBadInput) when it is missing.
Value read_adapter_config(const std::string& folder);

/// Gives the parameters their values from adapter_model.safetensors, in `dtype` where the parameter
/// is new and in that of `defaults` otherwise. Returns the tensors that belong to no parameter and
/// whose names end in ".base_layer.weight": copies of weights of the base that PEFT stores beside
/// targeted embeddings. Everything that is missing, left over, of another shape or not finite is
/// reported in one Error.
std::map<std::string, at::Tensor> read_adapter_values(
    const std::string& folder, const std::vector<std::shared_ptr<Parameter>>& parameters,
    const std::vector<DiskMapping>& mappings, const std::vector<at::ScalarType>& dtypes);

}  // namespace espalier::lora
