#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/data/record_stream.h"
#include "espalier/data/records.h"
#include "espalier/data/sample_length.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// The keys that all datasets over files of text records share; for configs to derive from.
struct RecordDatasetConfig : SampleLengthConfig {
  std::vector<std::string> path;
  std::string split = "train";
  std::optional<std::int64_t> shuffle_seed;
  std::optional<std::int64_t> limit_dataset_samples;
  bool streaming = false;
  std::int64_t shuffle_buffer_size = 10000;
};

/// The keys that say which records, without those about the length of samples.
template <std::derived_from<RecordDatasetConfig> Config>
ConfigSchema<Config> with_record_files(ConfigSchema<Config> schema) {
  return std::move(
      schema
          .field("path", &RecordDatasetConfig::path,
                 "file, folder or pattern with * and ?, or a list of them read one after the other")
          .or_single()
          .required()
          .field("split", &RecordDatasetConfig::split,
                 "part of the records, as in train[:10%], train[100:200] or [-5%:]; of a folder "
                 "whose file names tell splits apart, the files of that split")
          .field("shuffle_seed", &RecordDatasetConfig::shuffle_seed,
                 "shuffle the records by this seed before split and limit take theirs")
          .at_least(0)
          .field("limit_dataset_samples", &RecordDatasetConfig::limit_dataset_samples,
                 "use this many samples from the beginning; left out: all")
          .more_than(0)
          .field("streaming", &RecordDatasetConfig::streaming,
                 "read the files while training and check records when their turn comes; the data "
                 "has no length and never ends, so max_steps is needed")
          .field("shuffle_buffer_size", &RecordDatasetConfig::shuffle_buffer_size,
                 "records that a stream is shuffled through; 0: file order")
          .at_least(0));
}

template <std::derived_from<RecordDatasetConfig> Config>
ConfigSchema<Config> record_dataset_schema() {
  return with_sample_length(with_record_files(ConfigSchema<Config>()));
}

/// A dataset with one sample a record. `open` reads every record once and reports all that are
/// wrong; `get` reads and tokenises its record anew, so that what stays in memory is where records
/// begin. As a stream it reads files only as far as samples are asked for.
class ESPALIER_API RecordDataset : public Dataset {
 public:
  void open(const DatasetContext& context) final;
  std::int64_t size() const final { return stream_ ? kEndless : records_->size(); }
  Sample get(std::int64_t index) const final;
  bool keeps_order() const final { return stream_ != nullptr; }
  std::vector<std::string> files() const final;

 protected:
  explicit RecordDataset(RecordDatasetConfig config) : config_(std::move(config)) {}

  /// Called first; takes from the context what `encode` needs.
  virtual void prepare(const DatasetContext& context) = 0;
  /// The records of one file: of any kind that open_records knows.
  virtual std::shared_ptr<const RecordSource> open_file(const std::string& path) const;
  /// Throws Error when `encode` could not use the record; thread safe.
  virtual void check(const Value& record) const = 0;
  /// The sample before it is cut and padded; thread safe.
  virtual Sample encode(const Value& record) const = 0;

 private:
  RecordDatasetConfig config_;
  std::int64_t pad_id_ = 0;
  std::vector<std::string> files_;
  std::shared_ptr<const RecordSource> records_;
  std::unique_ptr<RecordStream> stream_;
};

}  // namespace espalier
