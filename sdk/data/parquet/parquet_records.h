#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "espalier/data/data_file.h"
#include "espalier/data/records.h"

namespace espalier::parquet {

/// True for bytes that begin as a Parquet file does.
bool is_parquet(std::string_view bytes);

/// The rows of a Parquet file: text, numbers, booleans, and structs, lists and maps of them; all
/// encodings; uncompressed, Snappy, gzip, Zstandard or LZ4_RAW. All rows are decoded at once
/// and held as JSON text. Throws Error(kBadInput) for other kinds and broken files.
std::shared_ptr<const RecordSource> open_parquet_records(const DataFile& file);

}  // namespace espalier::parquet
