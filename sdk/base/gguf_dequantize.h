#pragma once

#include <cstddef>
#include <span>

#include "espalier/base/api.h"
#include "espalier/base/gguf_types.h"

namespace espalier {

/// True for the types that `dequantize` knows: all plain floats, Q4_0 to Q8_0, the K types, IQ4, TQ
/// and MXFP4. The lattice types IQ1, IQ2 and IQ3 and integers are not.
ESPALIER_API bool can_dequantize(GgmlType type);

/// Turns stored blocks into floats: `out` takes all elements of `blocks`, whose size has to be
/// whole blocks. Each operation is rounded to float32 in the order of ggml's reference (scale times
/// sub-scale, times quant, minus minimum), so that results are equal bit by bit. F64 is rounded to
/// float. Error(kUnsupported) for other types.
ESPALIER_API void dequantize(GgmlType type, std::span<const std::byte> blocks,
                             std::span<float> out);

}  // namespace espalier
