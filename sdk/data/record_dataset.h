#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/config_schema.h"
#include "espalier/data/records.h"
#include "espalier/data/sample_length.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// The keys that all datasets over files of text records share; for configs to derive from.
struct RecordDatasetConfig : SampleLengthConfig {
  std::vector<std::string> path;
  std::optional<std::int64_t> limit_dataset_samples;
};

template <std::derived_from<RecordDatasetConfig> Config>
ConfigSchema<Config> record_dataset_schema() {
  return with_sample_length(ConfigSchema<Config>()
                                .field("path", &RecordDatasetConfig::path,
                                       "file, or list of files read one after the other")
                                .or_single()
                                .required()
                                .field("limit_dataset_samples",
                                       &RecordDatasetConfig::limit_dataset_samples,
                                       "use this many samples from the beginning; left out: all")
                                .more_than(0));
}

/// A dataset with one sample a record. `open` reads every record once and reports all that are
/// wrong; `get` reads and tokenises its record anew, so that what stays in memory is where records
/// begin.
class ESPALIER_API RecordDataset : public Dataset {
 public:
  void open(const DatasetContext& context) final;
  std::int64_t size() const final { return records_->size(); }
  Sample get(std::int64_t index) const final;

 protected:
  explicit RecordDataset(RecordDatasetConfig config) : config_(std::move(config)) {}

  /// Called first; takes from the context what `encode` needs.
  virtual void prepare(const DatasetContext& context) = 0;
  /// The records of one file.
  virtual std::shared_ptr<const RecordSource> open_file(const std::string& path) const = 0;
  /// Throws Error when `encode` could not use the record; thread safe.
  virtual void check(const Value& record) const = 0;
  /// The sample before it is cut and padded; thread safe.
  virtual Sample encode(const Value& record) const = 0;

 private:
  RecordDatasetConfig config_;
  std::int64_t pad_id_ = 0;
  std::shared_ptr<const RecordSource> records_;
};

}  // namespace espalier
