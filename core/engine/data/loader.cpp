#include "engine/data/loader.h"

#include <algorithm>
#include <span>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/random.h"
#include "espalier/data/token_file.h"

namespace espalier {

std::pair<std::int64_t, std::int64_t> share_of_rows(std::int64_t rows, std::int64_t index,
                                                    std::int64_t count) {
  const std::int64_t most = rows % count;  // as many shares have a row more
  const auto begin = [&](std::int64_t i) { return i * (rows / count) + std::min(i, most); };
  return {begin(index), begin(index + 1)};
}

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, LoaderOptions options,
                       LoaderState start)
    : dataset_(std::move(dataset)), options_(options), size_(dataset_->size()) {
  if (size_ <= 0) {
    throw_bad_input("the dataset has no samples", "0 samples", "at least one", "[dataset]");
  }
  if (dataset_->keeps_order()) options_.shuffle = false;
  // A window is wanted at once, and the next one while the rows of the last are computed.
  const std::int64_t ahead = std::max(options_.prefetch_samples, options_.rows.window);
  queue_ = std::make_unique<SampleQueue>([this](std::int64_t number) { return make(number); },
                                         start.next_sample, options_.workers, ahead);
  rows_ = std::make_unique<RowSource>(
      [this](std::int64_t number) { return RowSample(queue_->take(number), index_of(number)); },
      size_, options_.rows, start);
}

DataLoader::~DataLoader() = default;

std::int64_t DataLoader::index_of(std::int64_t number) {
  if (size_ == Dataset::kEndless) return number;
  const std::int64_t epoch = number / size_;
  const auto place = static_cast<std::size_t>(number % size_);
  if (!options_.shuffle) return static_cast<std::int64_t>(place);
  std::shared_ptr<const std::vector<std::int64_t>> order;
  {
    const std::lock_guard lock(orders_mutex_);
    auto& known = orders_[epoch];
    if (known == nullptr) {
      known = std::make_shared<const std::vector<std::int64_t>>(
          shuffled_order(size_, options_.seed, epoch));
    }
    order = known;
    orders_.erase(orders_.begin(), orders_.lower_bound(epoch - 1));
  }
  return (*order)[place];
}

/// Whether this share's batches need the sample. Rows of several samples need the lengths of all,
/// so that every rank forms the same ones.
bool DataLoader::in_share(std::int64_t number) const {
  if (options_.share_count == 1 || options_.rows.kind != RowKind::kSample) return true;
  const bool endless = size_ == Dataset::kEndless;
  const std::int64_t place = endless ? number : number % size_;
  const std::int64_t first = place / options_.rows_per_step * options_.rows_per_step;
  const std::int64_t rows =
      endless ? options_.rows_per_step : std::min(options_.rows_per_step, size_ - first);
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

/// The rows of a step: fewer than wanted at the end of an epoch, which a step does not cross.
std::vector<Row> DataLoader::next_rows() {
  std::vector<Row> rows;
  while (static_cast<std::int64_t>(rows.size()) < options_.rows_per_step) {
    std::optional<Row> row = rows_->next();
    if (row) {
      rows.push_back(*std::move(row));
    } else if (!rows.empty()) {
      break;
    }
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
  while (true) {
    const std::int64_t begin = rows_->state().next_sample;
    const bool at_start =
        size_ != Dataset::kEndless && begin % size_ == 0 && rows_->state().next_row == 0;
    rows = next_rows();
    const bool partial = static_cast<std::int64_t>(rows.size()) < options_.rows_per_step;
    // An epoch without any full step is kept.
    if (!(options_.drop_last && partial && !at_start)) {
      step.epoch = size_ == Dataset::kEndless ? 0 : begin / size_;
      break;
    }
  }
  step.batches = make_batches(rows);
  step.after = rows_->state();
  return step;
}

std::int64_t DataLoader::steps_per_epoch() {
  if (size_ == Dataset::kEndless) {
    throw_bad_input("the data is a stream, which has no end", {}, "max_steps", "[step_scheduler]",
                    "say how many steps to train: max_steps = 1000");
  }
  std::int64_t rows = size_;
  if (options_.rows.kind == RowKind::kSequential || options_.rows.kind == RowKind::kBestFit) {
    // Packing depends on the order of an epoch; the first stands for all.
    const auto* known = dynamic_cast<const SampleLengths*>(dataset_.get());
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(size_));
    run_in_parallel(size_, [&](std::int64_t number) {
      const std::int64_t index = index_of(number);
      std::optional<std::int64_t> length;
      if (known != nullptr) length = known->length(index);
      if (length && options_.max_length > 0) length = std::min(*length, options_.max_length);
      if (!length) length = static_cast<std::int64_t>(make(number).input_ids.size());
      lengths[static_cast<std::size_t>(number)] = *length;
    });
    rows = count_rows(lengths, options_.rows);
  }
  const std::int64_t whole = rows / options_.rows_per_step;
  const bool keeps_rest = rows % options_.rows_per_step != 0 && (!options_.drop_last || whole == 0);
  return whole + (keeps_rest ? 1 : 0);
}

}  // namespace espalier
