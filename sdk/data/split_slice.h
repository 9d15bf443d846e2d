#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// A split as Hugging Face datasets writes it: "train", "train[100:200]", "train[:10%]",
/// "train[-5%:]", "train[:10%](pct1_dropremainder)", and sums of those with "+". A name may be left
/// out before "[": it is train.
struct ESPALIER_API SplitSlice {
  struct Part {
    std::int64_t from = 0;
    std::int64_t to = 0;
    bool has_from = false;
    bool has_to = false;
    bool percent = false;
    bool drops_remainder = false;  ///< a percent is size / 100 samples, rounded down
  };

  std::string name = "train";
  std::vector<Part> parts;  ///< empty: everything

  /// Throws Error(kBadInput).
  static SplitSlice parse(const std::string& text);

  bool is_whole() const { return parts.empty(); }
  /// Half-open ranges of [0, size). Percents are rounded to the closest sample, halves to even.
  /// Throws Error(kBadInput) where the split has no samples.
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges(std::int64_t size) const;
};

}  // namespace espalier
