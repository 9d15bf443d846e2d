#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/gguf.h"
#include "espalier/base/value.h"

namespace espalier::formats {

/// Where a Hugging Face tensor comes from.
struct TensorMapping {
  std::string name;
  const GgufTensor* source = nullptr;
  /// Above 0: the rows of this many heads are stored with the two halves of the rotary dimensions
  /// interleaved, row 2i + j of a head for row i of half j.
  std::int64_t interleaved_heads = 0;
};

/// A decoder, translated from a GGUF file.
struct DecoderImport {
  Table config;             ///< config.json, without torch_dtype
  Table generation_config;  ///< generation_config.json
  std::vector<TensorMapping> tensors;
  std::vector<Problem> warnings;
};

/// Translates metadata and tensor names; checks that every tensor of the architecture is there in
/// the right shape and that none is left over. `file` has to outlive the result.
DecoderImport map_gguf_decoder(const GgufFile& file);

}  // namespace espalier::formats
