#include "engine/data/loader.h"

#include <algorithm>
#include <span>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/random.h"

namespace espalier {

std::pair<std::int64_t, std::int64_t> share_of_rows(std::int64_t rows, std::int64_t index,
                                                    std::int64_t count) {
  const std::int64_t most = rows % count;  // as many shares have a row more
  const auto begin = [&](std::int64_t i) { return i * (rows / count) + std::min(i, most); };
  return {begin(index), begin(index + 1)};
}

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, LoaderOptions options,
                       LoaderState start)
    : dataset_(std::move(dataset)),
      options_(options),
      size_(dataset_->size()),
      state_(start),
      claimed_(start.next_sample),
      consumed_(start.next_sample) {
  if (size_ <= 0) {
    throw_bad_input("the dataset has no samples", "0 samples", "at least one", "[dataset]");
  }
  if (dataset_->keeps_order()) options_.shuffle = false;
  for (std::int64_t i = 0; i < std::max<std::int64_t>(1, options_.workers); ++i) {
    threads_.emplace_back([this] { work(); });
  }
}

DataLoader::~DataLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::int64_t DataLoader::index_of(std::int64_t number) {
  const std::int64_t epoch = number / size_;
  const auto place = static_cast<std::size_t>(number % size_);
  if (!options_.shuffle) return static_cast<std::int64_t>(place);
  const std::lock_guard lock(mutex_);
  auto order = orders_.find(epoch);
  if (order == orders_.end()) {
    order = orders_.emplace(epoch, shuffled_order(size_, options_.seed, epoch)).first;
    orders_.erase(orders_.begin(), orders_.lower_bound(consumed_ / size_));  // epochs that are over
  }
  return order->second[place];
}

/// Whether this share's batches need the sample. With packing every length has to be known.
bool DataLoader::in_share(std::int64_t number) const {
  if (options_.share_count == 1 || options_.packed_sequence_size > 0) return true;
  const std::int64_t place = number % size_;
  const std::int64_t first = place / options_.rows_per_step * options_.rows_per_step;
  const std::int64_t rows = std::min(options_.rows_per_step, size_ - first);
  const auto [begin, end] = share_of_rows(rows, options_.share_index, options_.share_count);
  const std::int64_t row = place - first;
  return begin == end ? row == 0 : row >= begin && row < end;  // a filler is made of row 0
}

Sample DataLoader::make(std::int64_t number) {
  if (!in_share(number)) return {};
  const std::int64_t index = index_of(number);
  Sample sample = dataset_->get(index);
  check_and_cut(sample, index, options_.max_length);
  return sample;
}

void DataLoader::work() {
  while (true) {
    std::int64_t number = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock,
                    [&] { return stopping_ || claimed_ < consumed_ + options_.prefetch_samples; });
      if (stopping_) return;
      number = claimed_++;
    }
    std::pair<Sample, std::exception_ptr> result;
    try {
      result.first = make(number);
    } catch (...) {
      result.second = std::current_exception();  // rethrown by `take`, on the thread that asked
    }
    {
      const std::lock_guard lock(mutex_);
      ready_.emplace(number, std::move(result));
    }
    changed_.notify_all();
  }
}

Sample DataLoader::take(std::int64_t number) {
  std::unique_lock lock(mutex_);
  if (number != consumed_) {  // samples were left out at the end of an epoch
    consumed_ = number;
    claimed_ = std::max(claimed_, number);
    ready_.erase(ready_.begin(), ready_.lower_bound(number));
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return ready_.contains(number); });
  auto node = ready_.extract(number);
  consumed_ = number + 1;
  lock.unlock();
  changed_.notify_all();
  if (node.mapped().second) std::rethrow_exception(node.mapped().second);
  return std::move(node.mapped().first);
}

std::vector<Row> DataLoader::next_rows(std::int64_t& number) {
  const std::int64_t end = (number / size_ + 1) * size_;  // a step does not cross epochs
  const std::int64_t capacity = options_.packed_sequence_size;
  std::vector<Row> rows;
  std::int64_t used = 0;
  while (number < end) {
    Sample sample = take(number);
    const auto length = static_cast<std::int64_t>(sample.input_ids.size());
    const bool joins = capacity > 0 && !rows.empty() && used + length <= capacity;
    if (!joins && static_cast<std::int64_t>(rows.size()) == options_.rows_per_step) {
      const std::lock_guard lock(mutex_);
      ready_.emplace(number,
                     std::pair(std::move(sample), std::exception_ptr()));  // begins the next step
      consumed_ = number;
      break;
    }
    if (!joins) {
      rows.emplace_back();
      used = 0;
    }
    rows.back().push_back(std::move(sample));
    used += length;
    ++number;
    const bool full = static_cast<std::int64_t>(rows.size()) == options_.rows_per_step;
    if (full && capacity == 0) break;
  }
  return rows;
}

std::vector<Batch> DataLoader::make_batches(const std::vector<Row>& rows) const {
  const auto total = static_cast<std::int64_t>(rows.size());
  const auto [first, last] = share_of_rows(total, options_.share_index, options_.share_count);
  std::vector<Batch> batches;
  for (std::int64_t begin = first; begin < last; begin += options_.rows_per_batch) {
    const std::int64_t count = std::min(options_.rows_per_batch, last - begin);
    batches.push_back(collate(
        std::span(rows).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
        options_.collate));
  }
  const std::int64_t most_rows = (total + options_.share_count - 1) / options_.share_count;
  const std::int64_t most_batches =
      (most_rows + options_.rows_per_batch - 1) / options_.rows_per_batch;
  while (static_cast<std::int64_t>(batches.size()) < most_batches) {
    const std::size_t source = first < last ? static_cast<std::size_t>(first) : 0;
    Batch filler = collate(std::span(rows).subspan(source, 1), options_.collate);
    filler.filler = true;
    batches.push_back(std::move(filler));
  }
  return batches;
}

StepBatches DataLoader::next() {
  StepBatches step;
  std::vector<Row> rows;
  std::int64_t number = state_.next_sample;
  // `take` moves forward only: a step that is left out is passed over, and the loop ends because an
  // epoch without any full step is kept.
  do {
    step.epoch = number / size_;
    const bool at_start = number % size_ == 0;
    rows = next_rows(number);
    const bool partial = static_cast<std::int64_t>(rows.size()) < options_.rows_per_step;
    if (!(options_.drop_last && partial && !at_start)) break;
  } while (true);
  step.batches = make_batches(rows);
  state_.next_sample = number;
  step.after = state_;
  return step;
}

std::int64_t DataLoader::steps_per_epoch() {
  std::int64_t rows = size_;
  if (options_.packed_sequence_size > 0) {
    // Packing is sequential over the order of an epoch; the first stands for all.
    rows = 0;
    std::int64_t used = options_.packed_sequence_size + 1;
    for (std::int64_t number = 0; number < size_; ++number) {
      const auto length = static_cast<std::int64_t>(make(number).input_ids.size());
      if (used + length > options_.packed_sequence_size) {
        ++rows;
        used = 0;
      }
      used += length;
    }
  }
  const std::int64_t whole = rows / options_.rows_per_step;
  const bool keeps_rest = rows % options_.rows_per_step != 0 && (!options_.drop_last || whole == 0);
  return whole + (keeps_rest ? 1 : 0);
}

}  // namespace espalier
