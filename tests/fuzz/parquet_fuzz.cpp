// A Parquet file of a stranger: refused with an Error, or every row is read.
#include "espalier/base/error.h"
#include "memory_file.h"
#include "parquet/parquet_records.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const espalier::fuzz::MemoryFile file(data, size);
  try {
    const auto records = espalier::parquet::open_parquet_records(espalier::DataFile(file.path()));
    for (std::int64_t i = 0; i < records->size(); ++i) records->record(i);
  } catch (const espalier::Error& error) {
    if (error.code() == espalier::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
