#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/data/data_file.h"
#include "espalier/data/records.h"

namespace espalier {

/// A file of comma separated values (RFC 4180): the first row names the columns, fields may be
/// quoted, and quoted fields may hold delimiters, line breaks and doubled quotes. Line ends are
/// \n or \r\n; blank lines and a byte order mark are passed over. Each record is a table of column
/// to text. A row with another number of fields than the header is an Error when it is read.
/// Throws Error(kIo), and Error(kBadInput) for a file without rows, text that is not UTF-8, a
/// column named twice or a quote that is not closed.
ESPALIER_API std::shared_ptr<const RecordSource> open_csv_records(DataFile file, char delimiter);

}  // namespace espalier
