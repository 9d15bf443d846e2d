#include "blend.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "espalier/base/error.h"
#include "espalier/data/source_files.h"

namespace espalier::megatron {
namespace {

bool is_number(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0';
}

std::string without_ending(const std::string& path) {
  const bool has_ending = path.ends_with(".bin") || path.ends_with(".idx");
  return has_ending ? path.substr(0, path.size() - 4) : path;
}

/// The prefixes that a pattern fits, or the prefix itself.
std::vector<std::string> prefixes_of(const std::string& path) {
  if (path.find_first_of("*?[") == std::string::npos) return {without_ending(path)};
  std::set<std::string> prefixes;
  for (const std::string& file : find_data_files({path}, "train", {".bin"})) {
    if (file.ends_with(".bin") || file.ends_with(".idx")) prefixes.insert(without_ending(file));
  }
  return {prefixes.begin(), prefixes.end()};
}

[[noreturn]] void refuse(const std::string& what, const std::string& found) {
  throw_bad_input(what, found,
                  "prefixes, or weights and prefixes in turn: [\"30\", \"a\", \"70\", \"b\"]",
                  "paths");
}

}  // namespace

Blend read_blend(const std::vector<std::string>& paths) {
  Blend blend;
  if (paths.empty()) refuse("'paths' is empty", "no prefix");
  if (!is_number(paths[0])) {
    for (const std::string& path : paths) {
      for (const std::string& prefix : prefixes_of(path)) blend.prefixes.push_back(prefix);
    }
    if (blend.prefixes.empty()) refuse("no dataset fits the pattern", paths[0]);
    return blend;
  }
  if (paths.size() % 2 != 0) refuse("a weight has no prefix", paths.back());
  std::vector<double> weights;
  double total = 0;
  for (std::size_t i = 0; i < paths.size(); i += 2) {
    const double weight = std::strtod(paths[i].c_str(), nullptr);
    if (!is_number(paths[i]) || !(weight > 0)) refuse("a weight is no number above 0", paths[i]);
    weights.push_back(weight);
    total += weight;
    blend.prefixes.push_back(without_ending(paths[i + 1]));
  }
  for (double& weight : weights) weight /= total;
  // One dataset is no blend, whatever its weight.
  if (weights.size() > 1) blend.weights = std::move(weights);
  return blend;
}

std::vector<BlendEntry> blend_by_weight(const std::vector<double>& weights, std::int64_t size) {
  std::vector<std::int64_t> taken(weights.size(), 0);
  std::vector<BlendEntry> entries;
  for (std::int64_t n = 0; n < size; ++n) {
    const double drawn = std::max(static_cast<double>(n), 1.0);
    std::size_t chosen = 0;
    double furthest = weights[0] * drawn - static_cast<double>(taken[0]);
    for (std::size_t i = 1; i < weights.size(); ++i) {
      const double behind = weights[i] * drawn - static_cast<double>(taken[i]);
      if (behind > furthest) {
        furthest = behind;
        chosen = i;
      }
    }
    entries.push_back({static_cast<std::int32_t>(chosen), taken[chosen]++});
  }
  return entries;
}

std::vector<BlendEntry> blend_all(const std::vector<std::int64_t>& sizes) {
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) total += size;
  std::vector<std::int64_t> taken(sizes.size(), 0);
  std::vector<BlendEntry> entries;
  for (std::int64_t n = 0; n < total; ++n) {
    const double drawn = std::max(static_cast<double>(n), 1.0);
    std::size_t chosen = sizes.size();
    double furthest = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (taken[i] == sizes[i]) continue;
      const double weight = static_cast<double>(sizes[i]) / static_cast<double>(total);
      const double behind = weight * drawn - static_cast<double>(taken[i]);
      if (chosen == sizes.size() || behind > furthest) {
        furthest = behind;
        chosen = i;
      }
    }
    entries.push_back({static_cast<std::int32_t>(chosen), taken[chosen]++});
  }
  return entries;
}

}  // namespace espalier::megatron
