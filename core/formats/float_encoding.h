#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "espalier/base/dtype.h"
#include "espalier/base/gguf_types.h"
#include "espalier/base/safetensors_writer.h"

namespace espalier::formats {

/// F32, F64, F16 and BF16: the types that `decode_floats` reads.
bool is_float(DType dtype);

/// Little endian elements of `bytes` as floats; F64 is rounded.
void decode_floats(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// Hands `values` to the sink as F32, F16 or BF16, rounded to the nearest. Error(kBadInput), naming
/// `tensor`, for a finite value that would become infinite.
void encode_floats(std::span<const float> values, DType dtype, const std::string& tensor,
                   const TensorSink& sink);

/// The same as F32, F16, BF16 or Q8_0, which takes whole blocks of 32 values. A block of Q8_0 is
/// its scale, the largest magnitude / 127, as a half, and the values / scale rounded half away from
/// zero, as ggml's reference does. Error(kBadInput) also for values that are not finite in Q8_0.
void encode_ggml(std::span<const float> values, GgmlType type, const std::string& tensor,
                 const TensorSink& sink);

}  // namespace espalier::formats
