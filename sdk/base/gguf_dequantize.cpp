#include "espalier/base/gguf_dequantize.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/half_precision.h"

// Formats of ggml's blocks, least significant bits first. This file is compiled without contraction
// of products and sums (see CMakeLists.txt): a fused multiply-add would round once where the
// reference rounds twice.

namespace espalier {
namespace {

using Bytes = const std::uint8_t*;
using Index = std::ptrdiff_t;

template <class T>
T load(Bytes at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float load_half(Bytes at) { return half_to_float(load<std::uint16_t>(at)); }

int low(std::uint8_t byte) { return byte & 0x0F; }
int high(std::uint8_t byte) { return byte >> 4; }

void f32(Bytes in, float* out) { *out = load<float>(in); }
void f64(Bytes in, float* out) { *out = static_cast<float>(load<double>(in)); }
void f16(Bytes in, float* out) { *out = load_half(in); }
void bf16(Bytes in, float* out) { *out = bfloat16_to_float(load<std::uint16_t>(in)); }

/// 32 elements: low nibbles of the 16 bytes, then high nibbles.
template <class Convert>
void nibbles(Bytes quants, float* out, const Convert& convert) {
  for (Index i = 0; i < 16; ++i) {
    out[i] = convert(low(quants[i]), i);
    out[i + 16] = convert(high(quants[i]), i + 16);
  }
}

/// d: half, 32 x 4 bits with offset 8.
void q4_0(Bytes in, float* out) {
  const float d = load_half(in);
  nibbles(in + 2, out, [&](int q, Index) { return d * static_cast<float>(q - 8); });
}

/// d, m: half, 32 x 4 bits.
void q4_1(Bytes in, float* out) {
  const float d = load_half(in);
  const float m = load_half(in + 2);
  nibbles(in + 4, out, [&](int q, Index) { return d * static_cast<float>(q) + m; });
}

/// d: half, 32 fifth bits, 32 x 4 bits; offset 16.
void q5_0(Bytes in, float* out) {
  const float d = load_half(in);
  const auto fifth = load<std::uint32_t>(in + 2);
  nibbles(in + 6, out, [&](int q, Index i) {
    return d * static_cast<float>((q | static_cast<int>(fifth >> i & 1U) << 4) - 16);
  });
}

/// d, m: half, 32 fifth bits, 32 x 4 bits.
void q5_1(Bytes in, float* out) {
  const float d = load_half(in);
  const float m = load_half(in + 2);
  const auto fifth = load<std::uint32_t>(in + 4);
  nibbles(in + 8, out, [&](int q, Index i) {
    return d * static_cast<float>(q | static_cast<int>(fifth >> i & 1U) << 4) + m;
  });
}

/// d: half, 32 x int8.
void q8_0(Bytes in, float* out) {
  const float d = load_half(in);
  for (Index i = 0; i < 32; ++i) out[i] = d * static_cast<float>(load<std::int8_t>(in + 2 + i));
}

/// 16 x (scale 4 bits, minimum 4 bits), 256 x 2 bits, d, dmin: half. 128 elements lie in 32 bytes,
/// one after the other in the bit pairs.
void q2_k(Bytes in, float* out) {
  Bytes quants = in + 16;
  const float d = load_half(in + 80);
  const float dmin = load_half(in + 82);
  for (Index group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(low(in[group]));
    const float minimum = dmin * static_cast<float>(high(in[group]));
    Bytes source = quants + group / 8 * 32 + group % 2 * 16;
    const Index shift = group % 8 / 2 * 2;
    for (Index i = 0; i < 16; ++i)
      *out++ = scale * static_cast<float>(source[i] >> shift & 3) - minimum;
  }
}

/// 256 third bits (0 means minus 4), 256 x 2 bits, 16 x 6-bit scale with offset 32 in 12 bytes (8
/// bytes of low nibbles, 4 bytes of bit pairs), d: half.
void q3_k(Bytes in, float* out) {
  Bytes third = in;
  Bytes quants = in + 32;
  Bytes scales = in + 96;
  const float d = load_half(in + 108);
  for (Index group = 0; group < 16; ++group) {
    const int low_bits = group < 8 ? low(scales[group]) : high(scales[group - 8]);
    const int high_bits = scales[8 + group % 4] >> (group / 4 * 2) & 3;
    const float scale = d * static_cast<float>((low_bits | high_bits << 4) - 32);
    Bytes source = quants + group / 8 * 32 + group % 2 * 16;
    Bytes mask = third + group % 2 * 16;
    const Index shift = group % 8 / 2 * 2;
    for (Index i = 0; i < 16; ++i) {
      const int offset = (mask[i] >> (group / 2) & 1) != 0 ? 0 : 4;
      *out++ = scale * static_cast<float>((source[i] >> shift & 3) - offset);
    }
  }
}

struct ScaleAndMinimum {
  float scale;
  float minimum;
};

/// Of group 0..7 in the 12 bytes that Q4_K and Q5_K share: 6 bits each; the upper bits of the last
/// four groups lie in the upper bits of the first four.
ScaleAndMinimum k_scale(Bytes in, Index group) {
  const float d = load_half(in);
  const float dmin = load_half(in + 2);
  Bytes packed = in + 4;
  int scale = packed[group % 4];
  int minimum = packed[group % 4 + 4];
  if (group < 4) {
    scale &= 63;
    minimum &= 63;
  } else {
    scale = low(packed[group + 4]) | scale >> 6 << 4;
    minimum = high(packed[group + 4]) | minimum >> 6 << 4;
  }
  return {d * static_cast<float>(scale), dmin * static_cast<float>(minimum)};
}

/// d, dmin: half, 12 bytes of scales and minima, 256 x 4 bits: 32 bytes hold the low nibbles of one
/// group and the high nibbles of the next.
void q4_k(Bytes in, float* out) {
  Bytes quants = in + 16;
  for (Index group = 0; group < 8; ++group) {
    const auto [scale, minimum] = k_scale(in, group);
    Bytes source = quants + group / 2 * 32;
    const Index shift = group % 2 * 4;
    for (Index i = 0; i < 32; ++i)
      *out++ = scale * static_cast<float>(source[i] >> shift & 15) - minimum;
  }
}

/// As Q4_K, with 256 fifth bits before the nibbles: bit `group` of 32 bytes.
void q5_k(Bytes in, float* out) {
  Bytes fifth = in + 16;
  Bytes quants = in + 48;
  for (Index group = 0; group < 8; ++group) {
    const auto [scale, minimum] = k_scale(in, group);
    Bytes source = quants + group / 2 * 32;
    const Index shift = group % 2 * 4;
    for (Index i = 0; i < 32; ++i) {
      const int q = (source[i] >> shift & 15) | (fifth[i] >> group & 1) << 4;
      *out++ = scale * static_cast<float>(q) - minimum;
    }
  }
}

/// 256 x low 4 bits, 256 x high 2 bits, 16 x int8 scale, d: half; offset 32. Each half of the block
/// is four groups of 32: nibbles of 64 bytes, bit pairs of 32 bytes.
void q6_k(Bytes in, float* out) {
  Bytes scales = in + 192;
  const float d = load_half(in + 208);
  for (Index group = 0; group < 8; ++group) {
    Bytes low_bits = in + group / 4 * 64 + group % 2 * 32;
    Bytes high_bits = in + 128 + group / 4 * 32;
    const Index low_shift = group % 4 / 2 * 4;
    const Index high_shift = group % 4 * 2;
    for (Index i = 0; i < 32; ++i) {
      const float scale = d * static_cast<float>(load<std::int8_t>(scales + group * 2 + i / 16));
      const int q = (low_bits[i] >> low_shift & 15) | (high_bits[i] >> high_shift & 3) << 4;
      *out++ = scale * static_cast<float>(q - 32);
    }
  }
}

/// d: float, 256 x int8, sums that dequantisation does not need.
void q8_k(Bytes in, float* out) {
  const auto d = load<float>(in);
  for (Index i = 0; i < 256; ++i) out[i] = d * static_cast<float>(load<std::int8_t>(in + 4 + i));
}

/// Levels of the non-linear 4-bit types.
constexpr std::array<float, 16> kIQ4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};

/// d: half, 32 x 4-bit index of a level.
void iq4_nl(Bytes in, float* out) {
  const float d = load_half(in);
  nibbles(in + 2, out, [&](int q, Index) { return d * kIQ4Levels[static_cast<std::size_t>(q)]; });
}

/// d: half, 8 x high 2 bits and 8 x low 4 bits of scales with offset 32, 256 x 4-bit index of a
/// level.
void iq4_xs(Bytes in, float* out) {
  const float d = load_half(in);
  const auto high_bits = load<std::uint16_t>(in + 2);
  for (Index group = 0; group < 8; ++group) {
    const int low_bits = in[4 + group / 2] >> (group % 2 * 4) & 15;
    const float scale =
        d * static_cast<float>((low_bits | (high_bits >> (2 * group) & 3) << 4) - 32);
    nibbles(in + 8 + group * 16, out + group * 32,
            [&](int q, Index) { return scale * kIQ4Levels[static_cast<std::size_t>(q)]; });
  }
}

/// Digit `place` of five base-3 digits in a byte, which stores digits * 256 / 243, rounded up.
float ternary_digit(std::uint8_t byte, int place) {
  static constexpr std::array<int, 5> kPowers = {1, 3, 9, 27, 81};
  const Index shifted = byte * kPowers[static_cast<std::size_t>(place)] & 0xFF;
  return static_cast<float>((shifted * 3 >> 8) - 1);
}

/// 48 bytes of five digits, 4 bytes of four digits, d: half; digits are -1, 0 or 1.
void tq1_0(Bytes in, float* out) {
  struct Part {
    int begin, bytes, digits;
  };
  const float d = load_half(in + 52);
  for (const Part part : {Part{0, 32, 5}, Part{32, 16, 5}, Part{48, 4, 4}}) {
    for (int place = 0; place < part.digits; ++place) {
      for (Index i = 0; i < part.bytes; ++i) *out++ = d * ternary_digit(in[part.begin + i], place);
    }
  }
}

/// 256 x 2 bits (minus 1), 128 elements in 32 bytes; d: half.
void tq2_0(Bytes in, float* out) {
  const float d = load_half(in + 64);
  for (Index group = 0; group < 8; ++group) {
    for (Index i = 0; i < 32; ++i)
      *out++ = d * static_cast<float>((in[group / 4 * 32 + i] >> (group % 4 * 2) & 3) - 1);
  }
}

/// Exponent byte, 32 x E2M1. The levels are doubled and the scale is halved, so that both are
/// exact.
void mxfp4(Bytes in, float* out) {
  static constexpr std::array<float, 16> kLevels = {0, 1,  2,  3,  4,  6,  8,  12,
                                                    0, -1, -2, -3, -4, -6, -8, -12};
  const std::uint32_t exponent = in[0];
  const float scale =
      std::bit_cast<float>(exponent < 2 ? 0x00200000U << exponent : (exponent - 1) << 23);
  nibbles(in + 1, out, [&](int q, Index) { return scale * kLevels[static_cast<std::size_t>(q)]; });
}

using BlockFunction = void (*)(Bytes in, float* out);

BlockFunction block_function(GgmlType type) {
  switch (type) {
    case GgmlType::kF32: return f32;
    case GgmlType::kF64: return f64;
    case GgmlType::kF16: return f16;
    case GgmlType::kBF16: return bf16;
    case GgmlType::kQ4Type0: return q4_0;
    case GgmlType::kQ4Type1: return q4_1;
    case GgmlType::kQ5Type0: return q5_0;
    case GgmlType::kQ5Type1: return q5_1;
    case GgmlType::kQ8Type0: return q8_0;
    case GgmlType::kQ2K: return q2_k;
    case GgmlType::kQ3K: return q3_k;
    case GgmlType::kQ4K: return q4_k;
    case GgmlType::kQ5K: return q5_k;
    case GgmlType::kQ6K: return q6_k;
    case GgmlType::kQ8K: return q8_k;
    case GgmlType::kIQ4NL: return iq4_nl;
    case GgmlType::kIQ4XS: return iq4_xs;
    case GgmlType::kTQ1: return tq1_0;
    case GgmlType::kTQ2: return tq2_0;
    case GgmlType::kMXFP4: return mxfp4;
    default: return nullptr;
  }
}

}  // namespace

bool can_dequantize(GgmlType type) { return block_function(type) != nullptr; }

void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> out) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  const BlockFunction function = block_function(type);
  if (function == nullptr) {
    throw Error(
        Problem{.code = ErrorCode::kUnsupported,
                .what = "tensors of type " + std::string(info.name) + " can't be dequantised",
                .expected = "plain floats, Q4_0 to Q8_0, Q2_K to Q8_K, IQ4, TQ or MXFP4",
                .hint = "use a file in another quantisation, such as Q4_K_M or Q8_0"});
  }
  const auto block_bytes = static_cast<std::size_t>(info.block_bytes);
  const auto block_elements = static_cast<std::size_t>(info.block_elements);
  ESPALIER_ASSERT(blocks.size() % block_bytes == 0 &&
                      out.size() == blocks.size() / block_bytes * block_elements,
                  "the buffer does not fit the blocks");
  const auto* in = reinterpret_cast<const std::uint8_t*>(blocks.data());
  for (std::size_t i = 0; i < blocks.size() / block_bytes; ++i)
    function(in + i * block_bytes, out.data() + i * block_elements);
}

}  // namespace espalier
