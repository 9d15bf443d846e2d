#include "formats/float_encoding.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/half_precision.h"

namespace espalier::formats {
namespace {

constexpr std::size_t kBlockElements = 32;
constexpr std::size_t kBlockBytes = 34;

std::uint16_t narrow(float value, DType dtype) {
  return dtype == DType::kF16 ? float_to_half(value) : float_to_bfloat16(value);
}

float widen(std::uint16_t value, DType dtype) {
  return dtype == DType::kF16 ? half_to_float(value) : bfloat16_to_float(value);
}

template <class Stored, class Convert>
void decode(std::span<const std::byte> bytes, std::span<float> out, const Convert& convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof stored, sizeof stored);
    out[i] = convert(stored);
  }
}

void encode_block(std::span<const float> values, std::span<std::byte> block,
                  const std::string& tensor) {
  float largest = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) {
      throw_bad_input("a weight is not a finite number", std::to_string(value), {},
                      "tensor '" + tensor + "'", "Q8_0 has no place for it; use f16 or f32");
    }
    largest = std::max(largest, std::abs(value));
  }
  const float scale = largest / 127;
  const float inverse = scale != 0 ? 1 / scale : 0;
  const std::uint16_t stored = float_to_half(scale);
  if (std::isinf(half_to_float(stored))) {
    throw_bad_input("a weight is too large for Q8_0", std::to_string(largest), {},
                    "tensor '" + tensor + "'", "use bf16 or f32");
  }
  std::memcpy(block.data(), &stored, sizeof stored);
  for (std::size_t i = 0; i < values.size(); ++i) {
    // The inverse of a subnormal scale is infinite; ggml's 0 * inf is then no number.
    const float scaled = std::isfinite(inverse) ? std::round(values[i] * inverse) : 0;
    block[2 + i] =
        static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(scaled, -127.F, 127.F)));
  }
}

}  // namespace

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kF16 ||
         dtype == DType::kBF16;
}

void decode_floats(DType dtype, std::span<const std::byte> bytes, std::span<float> out) {
  ESPALIER_ASSERT(bytes.size() * 8 == out.size() * static_cast<std::size_t>(dtype_bits(dtype)),
                  "the bytes do not fit the floats");
  switch (dtype) {
    case DType::kF32: std::memcpy(out.data(), bytes.data(), bytes.size()); return;
    case DType::kF64:
      decode<double>(bytes, out, [](double value) { return static_cast<float>(value); });
      return;
    case DType::kF16: decode<std::uint16_t>(bytes, out, half_to_float); return;
    case DType::kBF16: decode<std::uint16_t>(bytes, out, bfloat16_to_float); return;
    default: ESPALIER_ASSERT(false, "a type that is no float");
  }
}

void encode_floats(std::span<const float> values, DType dtype, const std::string& tensor,
                   const TensorSink& sink) {
  if (dtype == DType::kF32) {
    sink(std::as_bytes(values));
    return;
  }
  std::vector<std::uint16_t> converted(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    converted[i] = narrow(values[i], dtype);
    if (std::isinf(widen(converted[i], dtype)) && std::isfinite(values[i])) {
      throw_bad_input("a weight is too large for " + std::string(dtype_config_name(dtype)),
                      std::to_string(values[i]), {}, "tensor '" + tensor + "'",
                      "use --dtype bfloat16 or float32");
    }
  }
  sink(std::as_bytes(std::span<const std::uint16_t>(converted)));
}

void encode_ggml(std::span<const float> values, GgmlType type, const std::string& tensor,
                 const TensorSink& sink) {
  if (type != GgmlType::kQ8Type0) {
    const DType dtype = type == GgmlType::kF32   ? DType::kF32
                        : type == GgmlType::kF16 ? DType::kF16
                                                 : DType::kBF16;
    encode_floats(values, dtype, tensor, sink);
    return;
  }
  ESPALIER_ASSERT(values.size() % kBlockElements == 0, "Q8_0 needs whole blocks");
  std::vector<std::byte> blocks(values.size() / kBlockElements * kBlockBytes);
  for (std::size_t block = 0; block * kBlockElements < values.size(); ++block) {
    encode_block(values.subspan(block * kBlockElements, kBlockElements),
                 std::span(blocks).subspan(block * kBlockBytes, kBlockBytes), tensor);
  }
  sink(blocks);
}

}  // namespace espalier::formats
