#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/data/records.h"

namespace espalier {

/// Endings of the names of files that `open_records` reads.
ESPALIER_API const std::vector<std::string>& record_file_endings();

/// The records of a file of any kind, compressed or not: CSV where the name ends in .csv or .tsv,
/// Parquet where the content is, and JSON or JSON Lines otherwise. `delimiter` parts the fields of
/// CSV; left out: a tab for .tsv, a comma for others. Throws Error.
ESPALIER_API std::shared_ptr<const RecordSource> open_records(
    const std::string& path, std::optional<char> delimiter = std::nullopt);

}  // namespace espalier
