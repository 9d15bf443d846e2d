#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/data/collate.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

struct LoaderOptions {
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::int64_t rows_per_step = 1;   ///< global batch size
  std::int64_t rows_per_batch = 1;  ///< local batch size: rows of one micro-batch
  std::int64_t packed_sequence_size =
      0;  ///< 0: a row is a sample; otherwise samples are packed up to this many tokens
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

/// Everything that has to be kept to go on at the same sample: samples are numbered through all
/// epochs.
struct LoaderState {
  std::int64_t next_sample = 0;
};

/// The micro-batches of one optimizer step: equally many for every share, with fillers at the end
/// of those that have fewer.
struct StepBatches {
  std::vector<Batch> batches;
  std::int64_t epoch = 0;
  LoaderState after;  ///< where the next step begins
};

/// Half-open range of the rows that share `index` of `count` has of `rows`.
std::pair<std::int64_t, std::int64_t> share_of_rows(std::int64_t rows, std::int64_t index,
                                                    std::int64_t count);

/// Reads a dataset step by step, in an order that depends on nothing but (seed, epoch). Samples are
/// made by threads, at most `prefetch_samples` ahead, and handed out in order. Not thread safe
/// itself.
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
  /// Steps of one epoch. With packing every sample is made once to learn its length.
  std::int64_t steps_per_epoch();

 private:
  void work();
  Sample take(std::int64_t number);
  Sample make(std::int64_t number);
  bool in_share(std::int64_t number) const;
  std::vector<Row> next_rows(std::int64_t& number);
  std::vector<Batch> make_batches(const std::vector<Row>& rows) const;
  std::int64_t index_of(std::int64_t number);

  std::shared_ptr<const Dataset> dataset_;
  LoaderOptions options_;
  std::int64_t size_ = 0;
  LoaderState state_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, std::vector<std::int64_t>>
      orders_;  ///< by epoch; the current one and the next
  std::map<std::int64_t, std::pair<Sample, std::exception_ptr>> ready_;
  std::int64_t claimed_ = 0;   ///< next number that a worker takes
  std::int64_t consumed_ = 0;  ///< next number that `take` wants
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace espalier
