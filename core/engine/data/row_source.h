#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/data/collate.h"

namespace espalier {

/// How samples become rows of a batch.
enum class RowKind {
  kSample,      ///< a row is a sample
  kSequential,  ///< samples share a row as long as they fit, in order
  kBestFit,     ///< samples of a window share rows, packed best fit decreasing
  kByLength,    ///< a row is a sample; those of a window come longest first
};

struct RowOptions {
  RowKind kind = RowKind::kSample;
  std::int64_t capacity = 0;  ///< tokens of a row that samples share
  std::int64_t window = 1;    ///< samples that are packed or sorted together
};

/// Everything that has to be kept to go on at the same row: samples are numbered through all
/// epochs.
struct LoaderState {
  std::int64_t next_sample = 0;  ///< first of the window, where there are windows
  std::int64_t next_row = 0;     ///< of the window's rows
};

/// Samples in order, as rows. Windows are cut out of an epoch's order from its beginning, never
/// across epochs, so the rows depend on that order alone.
class RowSource {
 public:
  using Take = std::function<RowSample(std::int64_t number)>;

  /// `take` gives samples by rising numbers; `size`: samples of an epoch.
  RowSource(Take take, std::int64_t size, RowOptions options, LoaderState start);

  /// nullopt at the end of an epoch; the next call goes on with the next one.
  std::optional<Row> next();
  /// Where the row after the last one begins.
  LoaderState state() const { return state_; }
  std::int64_t epoch() const { return epoch_; }

 private:
  void read_window();
  Row join_samples();

  Take take_;
  std::int64_t size_;
  RowOptions options_;
  LoaderState state_;
  std::int64_t epoch_ = 0;
  std::int64_t end_ = 0;           ///< number of the first sample of the next epoch
  std::optional<RowSample> held_;  ///< sample state_.next_sample, which did not fit the last row
  std::deque<Row> window_;         ///< rows of the window that are left
  std::int64_t window_end_ = 0;
};

/// The number of rows that samples of these lengths, an epoch in order, become.
std::int64_t count_rows(std::span<const std::int64_t> lengths, const RowOptions& options);

}  // namespace espalier
