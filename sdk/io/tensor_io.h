#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/dtype.h"
#include "espalier/base/safetensors.h"
#include "espalier/base/safetensors_writer.h"

namespace espalier {

// Functions here are for any number of threads at once; results are on the CPU and own their
// memory.

/// Throws Error(kUnsupported) for types that LibTorch has no tensors of (sub-byte floats).
ESPALIER_API at::ScalarType scalar_type_of(DType dtype);
ESPALIER_API DType dtype_of(at::ScalarType type);
/// "float32", "bfloat16", ...; throws Error(kBadInput) listing the choices.
ESPALIER_API at::ScalarType scalar_type_from_name(const std::string& name);
ESPALIER_API std::string scalar_type_name(at::ScalarType type);

/// A copy of one tensor of a file. Throws Error(kBadInput) where it has none of the name.
ESPALIER_API at::Tensor read_tensor(const TensorFile& file, std::string_view name);
/// All tensors of a safetensors file. Throws Error(kIo), and Error(kBadInput) for a damaged one.
ESPALIER_API std::map<std::string, at::Tensor> read_tensors(const std::string& path);

/// What write_safetensors takes; the tensor is made contiguous on the CPU and kept alive by the
/// source.
ESPALIER_API TensorSource tensor_source(const std::string& name, const at::Tensor& tensor);
/// Writes a safetensors file, which appears whole or not at all. Throws Error(kIo).
ESPALIER_API void write_tensors(const std::string& path,
                                const std::map<std::string, at::Tensor>& tensors,
                                const TensorMetadata& metadata = {});

}  // namespace espalier
