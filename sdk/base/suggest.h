#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// Edits (insert, delete, replace, swap of neighbours) that lead from `a` to `b`.
ESPALIER_API std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidates near enough to `word` to be what the user meant, nearest first, at most three.
/// Ignores case, and treats '-' and '_' as equal.
ESPALIER_API std::vector<std::string> nearest_names(std::string_view word,
                                                    std::span<const std::string> candidates);

/// "did you mean 'lr'?", "did you mean 'a' or 'b'?", or "" when nothing is near.
ESPALIER_API std::string did_you_mean(std::string_view word,
                                      std::span<const std::string> candidates);

/// "a, b, c" with each name in quotes where `quoted`.
ESPALIER_API std::string join_names(std::span<const std::string> names, bool quoted = false);

}  // namespace espalier
