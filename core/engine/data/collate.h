#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "espalier/sdk/dataset.h"

namespace espalier {

/// A sample and its place in the dataset; -1: not known.
struct RowSample : Sample {
  RowSample(Sample sample, std::int64_t place = -1)  // NOLINT(google-explicit-constructor)
      : Sample(std::move(sample)), index(place) {}
  std::int64_t index;
};

/// One row of a batch: samples that share it, one after the other.
using Row = std::vector<RowSample>;

struct CollateOptions {
  std::int32_t pad_id = 0;
  std::int64_t pad_seq_len_divisible =
      1;                      ///< the width of a batch is rounded up to a multiple of this
  bool padding_free = false;  ///< all samples of a batch in one row, one after the other
};

/// Pads rows on the right to the longest (or joins them, padding-free) and makes tensors [rows,
/// seq]: input_ids, labels, attention_mask; cu_seqlens where a row holds several documents;
/// position_ids where samples bring their own. Padding has label -100 and mask 0. Where one sample
/// has shifted labels, those of all others are shifted too. Counts tokens and labels as the model
/// will see them.
Batch collate(std::span<const Row> rows, const CollateOptions& options);

/// Throws Error(kBadInput) when the lists of a sample differ in length; cuts it to `max_length`
/// tokens (0: not).
void check_and_cut(Sample& sample, std::int64_t number, std::int64_t max_length);

}  // namespace espalier
