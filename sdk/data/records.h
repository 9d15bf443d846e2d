#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/error.h"
#include "espalier/base/value.h"

namespace espalier {

// Functions over data are for any number of threads at once. What takes a shared pointer keeps it;
// what takes text or a table uses it for the time of the call.

/// The records of a file (or several) of data, each a table. Immutable after construction; thread
/// safe.
class ESPALIER_API RecordSource {
 public:
  RecordSource() = default;
  RecordSource(const RecordSource&) = delete;
  RecordSource& operator=(const RecordSource&) = delete;
  virtual ~RecordSource();

  virtual std::int64_t size() const = 0;
  /// Reads record `index` of [0, size). Throws Error(kBadInput) with its place in the file.
  virtual Value record(std::int64_t index) const = 0;
  /// "file:line" of a record; reads the file up to there, so it is for messages only.
  virtual std::string where(std::int64_t index) const = 0;
};

/// All records of `sources`, one source after the other; at most `limit` of them.
ESPALIER_API std::shared_ptr<const RecordSource> chain_records(
    std::vector<std::shared_ptr<const RecordSource>> sources, std::optional<std::int64_t> limit);

/// The records of `source` at `order`, in that order; indices are of [0, source->size()).
ESPALIER_API std::shared_ptr<const RecordSource> pick_records(
    std::shared_ptr<const RecordSource> source, std::vector<std::int64_t> order);

/// Calls `check` with every record and throws one Error with what it threw for the first ten bad
/// records, and the number of the others. Runs on several threads.
ESPALIER_API void check_records(const RecordSource& records,
                                const std::function<void(const Value& record)>& check);

/// `error` with `place` put before the place of each problem.
ESPALIER_API Error at_place(const Error& error, const std::string& place);
/// The same with "file:line" of the record.
ESPALIER_API Error at_record(const Error& error, const RecordSource& records, std::int64_t index);

/// `read(record)`; problems that it throws get the record's place in the file.
template <class Read>
auto read_record(const RecordSource& records, std::int64_t index, const Read& read) {
  const Value record = records.record(index);
  try {
    return read(record);
  } catch (const Error& error) {
    throw at_record(error, records, index);
  }
}

}  // namespace espalier
