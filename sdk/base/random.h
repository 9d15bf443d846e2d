#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// Counter-based random numbers: number `i` of a stream is a pure function of (seed, stream, i), so
/// that resuming, recomputation and another number of ranks see the same values. Philox 4x32-10,
/// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
class ESPALIER_API CounterRandom {
 public:
  CounterRandom(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  /// 128 random bits: the fastest way to many small numbers.
  std::array<std::uint32_t, 4> block(std::uint64_t index) const;
  std::uint64_t bits(std::uint64_t index) const;
  /// Uniform in [0, 1) with 53 bits.
  double uniform(std::uint64_t index) const;
  /// Standard normal (Box-Muller).
  double normal(std::uint64_t index) const;
  /// Uniform in [0, bound), without modulo bias to within 2^-64.
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// Order of [0, size) drawn from (seed, epoch): Fisher-Yates over a counter-based stream.
ESPALIER_API std::vector<std::int64_t> shuffled_order(std::int64_t size, std::uint64_t seed,
                                                      std::int64_t epoch);

/// FNV-1a; stable between runs and machines.
ESPALIER_API std::uint64_t hash_text(std::string_view text);

}  // namespace espalier
