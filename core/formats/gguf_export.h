#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/gguf_types.h"

namespace espalier::formats {

struct GgufExportOptions {
  /// Of matrices: F32, F16, BF16 or Q8_0. Vectors and norms are always F32.
  GgmlType type = GgmlType::kF16;
  bool with_tokenizer = true;
  std::string name;  ///< general.name; empty: the folder's
};

struct GgufExportReport {
  std::string architecture;  ///< general.architecture
  std::int64_t parameters = 0;
  std::size_t tensors = 0;
  /// What the file says in another way than the model.
  std::vector<Problem> warnings;
};

/// Writes the model of a Hugging Face folder as one GGUF file for llama.cpp, a tensor at a time:
/// metadata, weights under GGUF's names and in its order of rows, tokenizer and chat template. The
/// file appears whole or not at all. Throws Error(kUnsupported) for an architecture, setting or
/// tokenizer that GGUF can't say, Error(kBadInput) for a damaged folder, with all problems at once.
GgufExportReport export_gguf(const std::string& folder, const std::string& file,
                             const GgufExportOptions& options);

}  // namespace espalier::formats
