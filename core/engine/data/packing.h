#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// Puts samples of the given lengths into rows of at most `capacity` tokens, best fit decreasing:
/// the longest sample first, each into the row with the least room that still holds it, or into a
/// new one. Samples of equal length go in their order, and the fuller row wins a tie by being
/// older. Rows come in the order of their first sample, as do the samples in them. A sample longer
/// than `capacity` has a row of its own.
ESPALIER_API std::vector<std::vector<std::size_t>> pack_best_fit(
    std::span<const std::int64_t> lengths, std::int64_t capacity);

/// The places of `lengths`, longest first; equal ones in their order.
ESPALIER_API std::vector<std::size_t> by_length(std::span<const std::int64_t> lengths);

}  // namespace espalier
