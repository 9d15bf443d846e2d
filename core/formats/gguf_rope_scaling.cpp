#include "formats/gguf_rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/gguf_dequantize.h"

namespace espalier::formats {
namespace {

/// Divisor of each rotary frequency under Llama 3's rule (transformers' rope_type "llama3").
double llama3_divisor(double frequency, double factor, double low, double high, double original) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < original / high) return 1;
  if (wavelength > original / low) return factor;
  const double smooth = (original / wavelength - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}

/// The file holds divisors for the rotary frequencies; the config needs the rule behind them. Llama
/// 3 has one, whose factor is the largest divisor.
Value llama3_scaling(const GgufFile& file, const GgufTensor& tensor, double theta,
                     std::int64_t head_dim) {
  constexpr double kLow = 1;
  constexpr double kHigh = 4;
  constexpr double kOriginal = 8192;
  std::vector<float> divisors(static_cast<std::size_t>(tensor.element_count()));
  dequantize(tensor.type, file.data(tensor), divisors);
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  bool equal = std::ssize(divisors) == head_dim / 2;
  for (std::size_t i = 0; equal && i < divisors.size(); ++i) {
    const double frequency =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double expected = llama3_divisor(frequency, factor, kLow, kHigh, kOriginal);
    equal = std::abs(divisors[i] - expected) <= 1e-4 * expected;
  }
  if (!equal || !(factor >= 1)) {
    throw_unsupported_gguf("the rotary frequencies are scaled by an unknown rule",
                           "rope_freqs.weight", "Llama 3's rule with its published constants",
                           file.path());
  }
  if (factor == 1) return {};
  Table scaling;
  scaling.set("rope_type", "llama3");
  scaling.set("factor", shortest_decimal(factor));
  scaling.set("low_freq_factor", kLow);
  scaling.set("high_freq_factor", kHigh);
  scaling.set("original_max_position_embeddings", static_cast<std::int64_t>(kOriginal));
  return scaling;
}

}  // namespace

Value map_rope_scaling(const GgufFile& file, ArchitectureMetadata& metadata, double theta,
                       std::int64_t head_dim) {
  if (const GgufTensor* divisors = file.find_tensor("rope_freqs.weight"))
    return llama3_scaling(file, *divisors, theta, head_dim);
  const double old_factor = metadata.number("rope.scale_linear", 1);
  const GgufValue* type = metadata.find("rope.scaling.type");
  const std::string name(type != nullptr ? type->as_string() : old_factor != 1 ? "linear" : "none");
  const double factor = metadata.number("rope.scaling.factor", old_factor);
  const auto original = metadata.optional_size("rope.scaling.original_context_length");
  metadata.find("rope.scaling.finetuned");
  if (name == "none" || (name == "linear" && factor == 1)) return {};
  if (name != "linear" && !(name == "yarn" && original)) {
    throw_unsupported_gguf("the rotary scaling can't be translated", name,
                           "none, linear, or yarn with the original context length", file.path());
  }
  Table scaling;
  scaling.set("rope_type", name);
  scaling.set("factor", factor);
  if (name == "yarn") scaling.set("original_max_position_embeddings", *original);
  return scaling;
}

}  // namespace espalier::formats
