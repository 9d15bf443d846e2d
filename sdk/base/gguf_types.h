#pragma once

#include <cstdint>
#include <string_view>

#include "espalier/base/api.h"

namespace espalier {

/// Storage types of tensors in GGUF files, with the numbers of the format; Q4Type0 is ggml's Q4_0.
/// Types beyond these are refused when a file is opened.
enum class GgmlType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4Type0 = 2,
  kQ4Type1 = 3,
  kQ5Type0 = 6,
  kQ5Type1 = 7,
  kQ8Type0 = 8,
  kQ8Type1 = 9,
  kQ2K = 10,
  kQ3K = 11,
  kQ4K = 12,
  kQ5K = 13,
  kQ6K = 14,
  kQ8K = 15,
  kIQ2XXS = 16,
  kIQ2XS = 17,
  kIQ3XXS = 18,
  kIQ1S = 19,
  kIQ4NL = 20,
  kIQ3S = 21,
  kIQ2S = 22,
  kIQ4XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1M = 29,
  kBF16 = 30,
  kTQ1 = 34,
  kTQ2 = 35,
  kMXFP4 = 39,
};

/// A tensor is stored as rows of whole blocks.
struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;  ///< "Q4_K"
  std::int64_t block_elements;
  std::int64_t block_bytes;
};

/// nullptr for a number that is no type.
ESPALIER_API const GgmlTypeInfo* find_ggml_type(std::uint32_t number);
ESPALIER_API const GgmlTypeInfo& ggml_type_info(GgmlType type);

}  // namespace espalier
