#include "espalier/data/record_files.h"

#include "espalier/data/csv_records.h"
#include "espalier/data/json_records.h"
#include "espalier/data/source_files.h"
#include "parquet/parquet_records.h"

namespace espalier {

const std::vector<std::string>& record_file_endings() {
  static const std::vector<std::string> kEndings = {".jsonl", ".ndjson", ".json",
                                                    ".csv",   ".tsv",    ".parquet"};
  return kEndings;
}

std::shared_ptr<const RecordSource> open_records(const std::string& path,
                                                 std::optional<char> delimiter) {
  DataFile file(path);
  if (parquet::is_parquet(file.text())) return parquet::open_parquet_records(file);
  const std::string name = content_name(path);
  if (name.ends_with(".csv") || name.ends_with(".tsv"))
    return open_csv_records(std::move(file),
                            delimiter.value_or(name.ends_with(".tsv") ? '\t' : ','));
  return json_records(JsonFile(std::move(file)));
}

}  // namespace espalier
