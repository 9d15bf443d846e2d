#pragma once

#include <vector>

#include "espalier/base/dtype.h"
#include "espalier/base/gguf.h"
#include "espalier/base/safetensors_writer.h"
#include "formats/gguf_decoder.h"

namespace espalier::formats {

/// The narrowest of float16, bfloat16 and float32 that holds every value of the tensors exactly.
/// Quantised tensors need float32.
DType exact_dtype(const GgufFile& file, const std::vector<TensorMapping>& tensors);

/// Sources that dequantise, reorder and convert while they are written, a few rows at a time.
/// `file` and `tensors` have to outlive them. Writing throws Error(kBadInput) for a value that is
/// too large for `dtype`.
std::vector<TensorSource> tensor_sources(const GgufFile& file,
                                         const std::vector<TensorMapping>& tensors, DType dtype);

}  // namespace espalier::formats
