#include "espalier/data/record_dataset.h"

#include <numeric>

#include "espalier/base/error.h"
#include "espalier/data/record_files.h"
#include "espalier/data/source_files.h"
#include "espalier/data/split_slice.h"

namespace espalier {
namespace {

/// The records of a split, shuffled before where the config asks for it.
std::shared_ptr<const RecordSource> select(std::shared_ptr<const RecordSource> records,
                                           const SplitSlice& split,
                                           const std::optional<std::int64_t>& shuffle_seed) {
  if (split.is_whole() && !shuffle_seed) return records;
  std::vector<std::int64_t> order(static_cast<std::size_t>(records->size()));
  std::iota(order.begin(), order.end(), 0);
  if (shuffle_seed)
    order = shuffled_order(records->size(), static_cast<std::uint64_t>(*shuffle_seed), 0);
  std::vector<std::int64_t> chosen;
  for (const auto& [from, to] : split.ranges(records->size()))
    chosen.insert(chosen.end(), order.begin() + from, order.begin() + to);
  return pick_records(std::move(records), std::move(chosen));
}

void check_streaming(const RecordDatasetConfig& config, const SplitSlice& split) {
  if (!config.streaming) return;
  if (split.is_whole() && !config.shuffle_seed) return;
  throw_bad_input(std::string(split.is_whole() ? "shuffle_seed" : "a slice of a split") +
                      " needs to know the number of records, and a stream does not",
                  split.is_whole() ? "shuffle_seed" : config.split,
                  "streaming = false, or neither slice nor shuffle_seed",
                  "the dataset's section of the recipe",
                  "limit_dataset_samples takes the first records of a stream, and "
                  "shuffle_buffer_size shuffles it");
}

}  // namespace

void RecordDataset::open(const DatasetContext& context) {
  check_sample_length(config_);
  const SplitSlice split = SplitSlice::parse(config_.split);
  check_streaming(config_, split);
  files_ = find_data_files(config_.path, split.name, record_file_endings());
  pad_id_ = padding_id(*require_tokenizer(context));
  prepare(context);
  if (config_.streaming) {
    stream_ = std::make_unique<RecordStream>(
        std::make_unique<RecordReader>(files_,
                                       [this](const std::string& path) { return open_file(path); }),
        StreamOptions{config_.shuffle_buffer_size, context.seed, config_.limit_dataset_samples});
  } else {
    std::vector<std::shared_ptr<const RecordSource>> sources;
    for (const std::string& path : files_) sources.push_back(open_file(path));
    std::shared_ptr<const RecordSource> all = chain_records(std::move(sources), std::nullopt);
    all = select(std::move(all), split, config_.shuffle_seed);
    records_ = chain_records({std::move(all)}, config_.limit_dataset_samples);
    check_records(*records_, [&](const Value& record) { check(record); });
  }
  // What is wrong with the tokenizer or the template shows at the first sample.
  if (size() > 0) get(0);
}

Sample RecordDataset::get(std::int64_t index) const {
  ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
  Sample sample;
  if (stream_ != nullptr) {
    StreamRecord record = stream_->get(index);
    const std::string where = record.where;
    const Value value = value_of(std::move(record));
    try {
      check(value);
      sample = encode(value);
    } catch (const Error& error) {
      throw at_place(error, where);
    }
  } else {
    sample = read_record(*records_, index, [&](const Value& record) { return encode(record); });
  }
  apply_sample_length(config_, pad_id_, sample);
  return sample;
}

std::vector<std::string> RecordDataset::files() const {
  return stream_ == nullptr ? files_ : std::vector<std::string>();
}

std::shared_ptr<const RecordSource> RecordDataset::open_file(const std::string& path) const {
  return open_records(path);
}

}  // namespace espalier
