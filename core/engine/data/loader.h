#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/data/collate.h"
#include "engine/data/row_source.h"
#include "engine/data/sample_queue.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

struct LoaderOptions {
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::int64_t rows_per_step = 1;   ///< global batch size
  std::int64_t rows_per_batch = 1;  ///< local batch size: rows of one micro-batch
  RowOptions rows;
  bool drop_last = false;    ///< leave out the step at the end of an epoch that is not full
  std::int64_t workers = 1;  ///< threads that make samples
  std::int64_t prefetch_samples = 64;  ///< samples made ahead at most
  std::int64_t max_length = 0;         ///< longer samples are cut; 0: not
  /// The rows of each step are cut into `share_count` equal shares (the first have one row more
  /// where they are not), and this loader makes batches of share `share_index`.
  std::int64_t share_index = 0;
  std::int64_t share_count = 1;
  CollateOptions collate;
};

/// The micro-batches of one optimizer step: equally many for every share, with fillers at the end
/// of those that have fewer.
struct StepBatches {
  std::vector<Batch> batches;
  std::int64_t epoch = 0;
  LoaderState after;  ///< where the next step begins
};

/// A dataset that can tell the length of a sample without making it.
class SampleLengths {
 public:
  virtual ~SampleLengths() = default;
  /// Tokens of a sample, before it is cut; nullopt: not known.
  virtual std::optional<std::int64_t> length(std::int64_t index) const = 0;
};

/// Half-open range of the rows that share `index` of `count` has of `rows`.
std::pair<std::int64_t, std::int64_t> share_of_rows(std::int64_t rows, std::int64_t index,
                                                    std::int64_t count);

/// Reads a dataset step by step, in an order that depends on nothing but (seed, epoch): not on the
/// number of ranks or threads. Samples are made by threads, ahead of the step that needs them.
/// Not thread safe itself.
class ESPALIER_API DataLoader {
 public:
  DataLoader(std::shared_ptr<const Dataset> dataset, LoaderOptions options, LoaderState start = {});
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;
  ~DataLoader();

  /// The next step; never ends: after the last sample comes the next epoch. Rethrows what a dataset
  /// throws.
  StepBatches next();

  std::int64_t samples_per_epoch() const { return size_; }
  /// Steps of one epoch. With packing every sample is made once to learn its length, on all cores,
  /// unless the dataset knows it. Throws Error(kBadInput) for a stream.
  std::int64_t steps_per_epoch();

 private:
  Sample make(std::int64_t number);
  bool in_share(std::int64_t number) const;
  std::vector<Batch> make_batches(const std::vector<Row>& rows) const;
  std::int64_t index_of(std::int64_t number);
  std::vector<Row> next_rows();

  std::shared_ptr<const Dataset> dataset_;
  LoaderOptions options_;
  std::int64_t size_ = 0;

  std::mutex orders_mutex_;
  /// By epoch: the one that samples are made of, and those beside it.
  std::map<std::int64_t, std::shared_ptr<const std::vector<std::int64_t>>> orders_;

  std::unique_ptr<SampleQueue> queue_;
  std::unique_ptr<RowSource> rows_;
};

}  // namespace espalier
