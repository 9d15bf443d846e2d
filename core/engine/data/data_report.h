#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "espalier/base/value.h"
#include "espalier/sdk/dataset.h"

namespace espalier {

/// Something in the data that is likely to be a mistake.
struct DataFinding {
  std::string kind;  ///< "empty_answer", "nothing_learnt", "over_long", "duplicate", ...
  std::string text;  ///< one sentence
  std::int64_t count = 0;
  std::vector<std::int64_t> examples;  ///< numbers of the first samples with it
};

/// A stretch of text of a row that is learnt, or not.
struct ShownRun {
  std::string text;
  std::int64_t tokens = 0;
  bool learnt = false;
};

struct ShownDocument {
  std::vector<ShownRun> runs;
  std::int64_t tokens = 0;
  std::int64_t learnt = 0;
};

/// A row of a batch as the model gets it.
struct ShownRow {
  std::vector<ShownDocument> documents;
  std::int64_t width = 0;  ///< with padding
};

/// What the samples of a dataset are like.
struct DataReport {
  std::string section;
  std::int64_t samples = 0;    ///< -1: a stream
  std::int64_t looked_at = 0;  ///< the numbers below are of these
  std::int64_t tokens = 0;     ///< after cutting
  std::int64_t label_tokens = 0;
  std::int64_t max_length = 0;  ///< samples are cut to this; 0: not
  std::int64_t truncated = 0;
  std::int64_t tokens_cut = 0;
  std::vector<std::int64_t> lengths;  ///< before cutting, in rising order
  std::string packing = "none";
  std::int64_t capacity = 0;
  std::int64_t rows = 0;
  double padded_efficiency = 0;  ///< real tokens / places of padded batches
  double packed_efficiency = 0;  ///< the same of packed rows; 0 without packing
  std::vector<DataFinding> findings;
  std::vector<ShownRow> shown;

  std::int64_t percentile(double share) const;
  /// Equal steps from 0 to the longest: counts of each.
  struct Bucket {
    std::int64_t from = 0;
    std::int64_t to = 0;
    std::int64_t count = 0;
  };
  std::vector<Bucket> histogram() const;
  Value to_value() const;
};

/// Makes the samples (20,000 at most, evenly spread) and the first `shown_rows` rows of training.
/// `tokenizer` may be null: texts are ids then.
DataReport report_on(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                     const Tokenizer* tokenizer, std::int64_t shown_rows);

/// A page that needs nothing else: no scripts or fonts from elsewhere.
std::string report_page(const DataReport& report);

/// The same for a terminal; without `colour`, learnt text stands in «».
std::string report_text(const DataReport& report, bool colour);

}  // namespace espalier
