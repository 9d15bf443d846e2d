#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/sdk/parameter.h"

namespace espalier {

/// For each dimension of a parameter the index ranges wanted, rising and without overlap. Empty:
/// everything.
using ParameterSlice = std::vector<std::vector<DimensionRange>>;

/// Reads a parameter, or a slice of it, in `dtype`, from the disk tensors of its mapping. Reads
/// only the bytes of the slice. The result, on the CPU, has the shape of the slice and owns its
/// memory; several threads may read one checkpoint. Throws Error(kBadInput) when a disk tensor is
/// missing or has another shape than the mapping says.
ESPALIER_API at::Tensor load_parameter(const CheckpointReader& checkpoint,
                                       const ParameterSpec& spec, const DiskMapping& mapping,
                                       at::ScalarType dtype, const ParameterSlice& slice = {});

/// The inverse: a tensor of the parameter's shape (a weight, a gradient) under the names and in the
/// layout of the disk. Parts that share a disk tensor with another parameter (split) are not
/// supported by it yet and are an Error(kUnsupported).
ESPALIER_API std::vector<std::pair<std::string, at::Tensor>> to_disk_layout(
    const DiskMapping& mapping, const at::Tensor& value);

/// Shape of a disk tensor as the mapping expects it, slowest dimension first.
ESPALIER_API std::vector<std::int64_t> disk_shape(const DiskTensor& part);

}  // namespace espalier
