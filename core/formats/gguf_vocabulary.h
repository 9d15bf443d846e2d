#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/value.h"
#include "formats/gguf_writer.h"

namespace espalier::formats {

/// Adds the tokenizer of a model folder (tokenizer.json, tokenizer_config.json and its chat
/// template) to the metadata: byte-level BPE as "gpt2", BPE with byte fallback, which comes from
/// SentencePiece, as "llama" with scores that merge in the same order. The vocabulary is filled up
/// to `rows`, those of the embedding. A folder without a tokenizer is a warning. Throws
/// Error(kUnsupported) for kinds that GGUF has no name for, Error(kBadInput) for a tokenizer that
/// contradicts itself or the model.
void add_gguf_vocabulary(const std::string& folder, std::int64_t rows, GgufMetadata& metadata,
                         std::vector<Problem>& warnings);

}  // namespace espalier::formats
