#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/dtype.h"
#include "espalier/base/error.h"

namespace espalier::formats {

struct GgufImportOptions {
  /// Of the weights written: float32, bfloat16 or float16. Empty: the narrowest of those that holds
  /// every value exactly.
  std::optional<DType> dtype;
  /// Replace a folder that holds an earlier model.
  bool overwrite = false;
  std::uint64_t max_shard_bytes = 5'000'000'000;
};

struct GgufImportReport {
  std::string architecture;  ///< "LlamaForCausalLM"
  DType dtype = DType::kF32;
  std::int64_t parameters = 0;
  bool has_tokenizer = false;
  std::vector<std::string> files;  ///< names in the folder
  /// What could not be taken over, or only by assumption.
  std::vector<Problem> warnings;
};

/// Writes the model of a GGUF file as a Hugging Face folder: config.json, generation_config.json,
/// safetensors with Hugging Face names, shapes and row order, and for byte-level BPE vocabularies
/// the tokenizer with its chat template. The folder appears whole or not at all. Throws
/// Error(kUnsupported) for an architecture or tensor type it does not know, Error(kBadInput) for a
/// damaged file, with all missing and unknown tensors at once.
GgufImportReport import_gguf(const std::string& file, const std::string& folder,
                             const GgufImportOptions& options = {});

}  // namespace espalier::formats
