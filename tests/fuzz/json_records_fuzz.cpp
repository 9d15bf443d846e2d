// JSON, JSON Lines, CSV and compressed forms of a stranger: refused with an Error, or every record
// is read.
#include "espalier/base/error.h"
#include "espalier/data/csv_records.h"
#include "espalier/data/json_records.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const espalier::fuzz::MemoryFile file(data, size);
  const auto read_all = [](const auto& open) {
    try {
      const auto records = open();
      for (std::int64_t i = 0; i < records->size(); ++i) {
        try {
          records->record(i);
        } catch (const espalier::Error& error) {
          if (error.code() == espalier::ErrorCode::kInternal) std::abort();
        }
        if (i == 0 || i + 1 == records->size()) records->where(i);
      }
    } catch (const espalier::Error& error) {
      if (error.code() == espalier::ErrorCode::kInternal) std::abort();
    }
  };
  read_all([&] { return espalier::json_records(espalier::JsonFile(file.path())); });
  read_all([&] { return espalier::open_csv_records(espalier::DataFile(file.path()), ','); });
  return 0;
}
