#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace espalier::megatron {

/// The datasets of a blend and, where they are given, their shares, which add up to 1.
struct Blend {
  std::vector<std::string> prefixes;
  std::optional<std::vector<double>> weights;
};

/// Reads a list of prefixes, or of weights and prefixes in turn. Prefixes may be patterns; .bin and
/// .idx behind them are left out. Throws Error(kBadInput).
Blend read_blend(const std::vector<std::string>& paths);

/// Sample n of a blend: number `sample` of dataset `dataset`.
struct BlendEntry {
  std::int32_t dataset = 0;
  std::int64_t sample = 0;
};

/// `size` samples, each from the dataset that is furthest behind its weight (Megatron-LM's
/// build_blending_indices).
std::vector<BlendEntry> blend_by_weight(const std::vector<double>& weights, std::int64_t size);

/// Every sample of datasets of these sizes once (build_exhaustive_blending_indices).
std::vector<BlendEntry> blend_all(const std::vector<std::int64_t>& sizes);

}  // namespace espalier::megatron
