#pragma once

#include <cstdint>

#include "espalier/base/gguf.h"
#include "espalier/base/value.h"
#include "formats/gguf_metadata.h"

namespace espalier::formats {

/// `rope_scaling` of the Hugging Face config; null for none. Error(kUnsupported) for a rule that it
/// can't say. `theta` is the base of the rotary frequencies.
Value map_rope_scaling(const GgufFile& file, ArchitectureMetadata& metadata, double theta,
                       std::int64_t head_dim);

}  // namespace espalier::formats
