#include "espalier/base/gguf_types.h"

#include <array>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr std::array kTypes = {
    GgmlTypeInfo{GgmlType::kF32, "F32", 1, 4},
    GgmlTypeInfo{GgmlType::kF16, "F16", 1, 2},
    GgmlTypeInfo{GgmlType::kQ4Type0, "Q4_0", 32, 18},
    GgmlTypeInfo{GgmlType::kQ4Type1, "Q4_1", 32, 20},
    GgmlTypeInfo{GgmlType::kQ5Type0, "Q5_0", 32, 22},
    GgmlTypeInfo{GgmlType::kQ5Type1, "Q5_1", 32, 24},
    GgmlTypeInfo{GgmlType::kQ8Type0, "Q8_0", 32, 34},
    GgmlTypeInfo{GgmlType::kQ8Type1, "Q8_1", 32, 36},
    GgmlTypeInfo{GgmlType::kQ2K, "Q2_K", 256, 84},
    GgmlTypeInfo{GgmlType::kQ3K, "Q3_K", 256, 110},
    GgmlTypeInfo{GgmlType::kQ4K, "Q4_K", 256, 144},
    GgmlTypeInfo{GgmlType::kQ5K, "Q5_K", 256, 176},
    GgmlTypeInfo{GgmlType::kQ6K, "Q6_K", 256, 210},
    GgmlTypeInfo{GgmlType::kQ8K, "Q8_K", 256, 292},
    GgmlTypeInfo{GgmlType::kIQ2XXS, "IQ2_XXS", 256, 66},
    GgmlTypeInfo{GgmlType::kIQ2XS, "IQ2_XS", 256, 74},
    GgmlTypeInfo{GgmlType::kIQ3XXS, "IQ3_XXS", 256, 98},
    GgmlTypeInfo{GgmlType::kIQ1S, "IQ1_S", 256, 50},
    GgmlTypeInfo{GgmlType::kIQ4NL, "IQ4_NL", 32, 18},
    GgmlTypeInfo{GgmlType::kIQ3S, "IQ3_S", 256, 110},
    GgmlTypeInfo{GgmlType::kIQ2S, "IQ2_S", 256, 82},
    GgmlTypeInfo{GgmlType::kIQ4XS, "IQ4_XS", 256, 136},
    GgmlTypeInfo{GgmlType::kI8, "I8", 1, 1},
    GgmlTypeInfo{GgmlType::kI16, "I16", 1, 2},
    GgmlTypeInfo{GgmlType::kI32, "I32", 1, 4},
    GgmlTypeInfo{GgmlType::kI64, "I64", 1, 8},
    GgmlTypeInfo{GgmlType::kF64, "F64", 1, 8},
    GgmlTypeInfo{GgmlType::kIQ1M, "IQ1_M", 256, 56},
    GgmlTypeInfo{GgmlType::kBF16, "BF16", 1, 2},
    GgmlTypeInfo{GgmlType::kTQ1, "TQ1_0", 256, 54},
    GgmlTypeInfo{GgmlType::kTQ2, "TQ2_0", 256, 66},
    GgmlTypeInfo{GgmlType::kMXFP4, "MXFP4", 32, 17},
};

}  // namespace

const GgmlTypeInfo* find_ggml_type(std::uint32_t number) {
  for (const GgmlTypeInfo& info : kTypes) {
    if (static_cast<std::uint32_t>(info.type) == number) return &info;
  }
  return nullptr;
}

const GgmlTypeInfo& ggml_type_info(GgmlType type) {
  const GgmlTypeInfo* info = find_ggml_type(static_cast<std::uint32_t>(type));
  ESPALIER_ASSERT(info != nullptr, "an unknown GGUF tensor type");
  return *info;
}

}  // namespace espalier
