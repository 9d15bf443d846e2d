#include "espalier/data/record_dataset.h"

#include "espalier/base/error.h"

namespace espalier {

void RecordDataset::open(const DatasetContext& context) {
  check_sample_length(config_);
  if (config_.path.empty()) {
    throw_bad_input("'path' names no file", "an empty list", "at least one file",
                    "the dataset's section of the recipe");
  }
  pad_id_ = padding_id(*require_tokenizer(context));
  prepare(context);
  std::vector<std::shared_ptr<const RecordSource>> files;
  for (const std::string& path : config_.path) files.push_back(open_file(path));
  records_ = chain_records(std::move(files), config_.limit_dataset_samples);
  check_records(*records_, [&](const Value& record) { check(record); });
  // What is wrong with the tokenizer or the template shows at the first sample.
  if (records_->size() > 0) get(0);
}

Sample RecordDataset::get(std::int64_t index) const {
  ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
  Sample sample =
      read_record(*records_, index, [&](const Value& record) { return encode(record); });
  apply_sample_length(config_, pad_id_, sample);
  return sample;
}

}  // namespace espalier
