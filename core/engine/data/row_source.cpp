#include "engine/data/row_source.h"

#include <algorithm>
#include <limits>

#include "engine/data/packing.h"

namespace espalier {
namespace {

std::int64_t length_of(const Sample& sample) {
  return static_cast<std::int64_t>(sample.input_ids.size());
}

bool has_windows(RowKind kind) { return kind == RowKind::kBestFit || kind == RowKind::kByLength; }

}  // namespace

RowSource::RowSource(Take take, std::int64_t size, RowOptions options, LoaderState start)
    : take_(std::move(take)),
      size_(size),
      options_(options),
      state_(start),
      epoch_(start.next_sample / size) {
  const bool endless = size_ == std::numeric_limits<std::int64_t>::max();
  end_ = endless ? size_ : (epoch_ + 1) * size_;
  if (start.next_row == 0 || !has_windows(options_.kind)) return;
  read_window();
  window_.erase(window_.begin(),
                window_.begin() + std::min<std::ptrdiff_t>(
                                      start.next_row, static_cast<std::ptrdiff_t>(window_.size())));
  if (window_.empty()) state_ = {window_end_, 0};
}

void RowSource::read_window() {
  const std::int64_t begin = state_.next_sample;
  window_end_ = begin + std::min(std::max<std::int64_t>(1, options_.window), end_ - begin);
  std::vector<RowSample> samples;
  std::vector<std::int64_t> lengths;
  for (std::int64_t number = begin; number < window_end_; ++number)
    lengths.push_back(length_of(samples.emplace_back(take_(number))));
  if (options_.kind == RowKind::kByLength) {
    for (const std::size_t i : by_length(lengths)) window_.push_back(Row{std::move(samples[i])});
    return;
  }
  for (const std::vector<std::size_t>& members : pack_best_fit(lengths, options_.capacity)) {
    Row& row = window_.emplace_back();
    for (const std::size_t i : members) row.push_back(std::move(samples[i]));
  }
}

Row RowSource::join_samples() {
  Row row;
  std::int64_t used = 0;
  while (state_.next_sample < end_) {
    if (!held_) held_ = take_(state_.next_sample);
    if (!row.empty() && used + length_of(*held_) > options_.capacity) break;
    used += length_of(*held_);
    row.push_back(*std::move(held_));
    held_.reset();
    ++state_.next_sample;
    if (options_.kind == RowKind::kSample) break;
  }
  return row;
}

std::optional<Row> RowSource::next() {
  if (window_.empty() && state_.next_sample == end_) {
    ++epoch_;
    end_ += size_;
    return std::nullopt;
  }
  if (!has_windows(options_.kind)) return join_samples();
  if (window_.empty()) read_window();
  Row row = std::move(window_.front());
  window_.pop_front();
  ++state_.next_row;
  if (window_.empty()) state_ = {window_end_, 0};
  return row;
}

std::int64_t count_rows(std::span<const std::int64_t> lengths, const RowOptions& options) {
  if (options.kind == RowKind::kSample || options.kind == RowKind::kByLength)
    return static_cast<std::int64_t>(lengths.size());
  std::int64_t rows = 0;
  if (options.kind == RowKind::kBestFit) {
    for (std::size_t begin = 0; begin < lengths.size();) {
      const std::size_t count =
          std::min(static_cast<std::size_t>(options.window), lengths.size() - begin);
      rows += static_cast<std::int64_t>(
          pack_best_fit(lengths.subspan(begin, count), options.capacity).size());
      begin += count;
    }
    return rows;
  }
  std::int64_t used = 0;
  for (const std::int64_t length : lengths) {
    if (rows == 0 || used + length > options.capacity) {
      ++rows;
      used = 0;
    }
    used += length;
  }
  return rows;
}

}  // namespace espalier
