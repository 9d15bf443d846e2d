#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace espalier::megatron {

/// Which parts of which documents make up the samples of a dataset, with the arithmetic and the
/// random numbers of Megatron-LM's GPTDataset (megatron/core/datasets/gpt_dataset.py), so that a
/// run gets the samples that it gets there.
struct SampleOrder {
  std::vector<std::int32_t> documents;  ///< in the order in which they are joined
  /// Sample i reaches from starts[i] to starts[i + 1]: (place in `documents`, token in there).
  std::vector<std::pair<std::int64_t, std::int64_t>> starts;
  std::vector<std::int64_t> shuffle;  ///< what is drawn n-th
};

/// `lengths`: tokens of every document; `chosen`: those to draw from, [first, second).
/// Without `num_samples` one epoch. `seq_length` + 1 tokens make a sample, which shares the last
/// one with the next. Throws Error(kBadInput) when not one sample is whole.
SampleOrder order_samples(std::span<const std::int32_t> lengths,
                          std::pair<std::int64_t, std::int64_t> chosen,
                          std::optional<std::int64_t> num_samples, std::int64_t seq_length,
                          std::uint32_t seed);

/// The range of [0, count) that part 0, 1 or 2 (train, validation, test) of a split such as
/// "969,30,1" has. Throws Error(kBadInput).
std::pair<std::int64_t, std::int64_t> split_range(const std::string& split, int part,
                                                  std::int64_t count);

/// numpy.random.RandomState(seed).shuffle of a one-dimensional array.
template <class T>
void numpy_shuffle(std::mt19937& random, std::vector<T>& list) {
  for (std::size_t i = list.size(); i-- > 1;) {
    std::uint64_t mask = i;
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    std::uint64_t drawn = 0;
    do {
      drawn = random() & mask;  // more than 2^32 documents are not supported here
    } while (drawn > i);
    std::swap(list[i], list[drawn]);
  }
}

}  // namespace espalier::megatron
