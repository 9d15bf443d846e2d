#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "espalier/base/api.h"

namespace espalier {

/// Element types of tensors in files: all that safetensors knows, in its order. The order is part
/// of the format's canonical layout: a serializer writes tensors of later types first, which keeps
/// every tensor aligned.
enum class DType : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

inline constexpr int kDTypeCount = 22;

/// Name in safetensors headers: "BF16".
ESPALIER_API std::string_view dtype_name(DType dtype);
/// Name in Hugging Face configs, which is PyTorch's: "bfloat16".
ESPALIER_API std::string_view dtype_config_name(DType dtype);
/// Bits of one element. Types of 4 and 6 bits are packed without padding.
ESPALIER_API int dtype_bits(DType dtype);

/// From the safetensors name; empty when there is no such type.
ESPALIER_API std::optional<DType> dtype_from_name(std::string_view name);
/// From "bfloat16" or "torch.bfloat16", and PyTorch's aliases "half", "float", "double"; empty when
/// there is no such type.
ESPALIER_API std::optional<DType> dtype_from_config_name(std::string_view name);

}  // namespace espalier
