#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/data/data_file.h"
#include "espalier/data/records.h"

namespace espalier {

/// A file of JSON, compressed or not: JSON Lines (one object a line, blank lines allowed), one
/// array of objects, or one object. Lines are told from a document by their first line, which is a
/// whole value. A byte order mark is passed over. Immutable; thread safe.
class ESPALIER_API JsonFile {
 public:
  /// Finds where the records are; only documents are parsed. Throws Error(kIo) for a file that
  /// can't be read and Error(kBadInput) for one without records or a broken document.
  explicit JsonFile(const std::string& path) : JsonFile(DataFile(path)) {}
  explicit JsonFile(DataFile file);

  struct Record {
    std::string_view text;  ///< in the file
    std::size_t line = 1;
  };

  const std::vector<Record>& records() const { return records_; }
  const std::string& path() const { return file_.path(); }
  /// Number of the line that a part of the file begins in; counts line breaks up to there.
  std::size_t line_of(std::string_view text) const { return file_.line_of(text); }
  /// Parses a part of the file that begins in `line`. Throws Error(kBadInput) with file, line and
  /// column.
  Value parse(std::string_view text, std::size_t line) const;

 private:
  void find_lines(std::string_view text);
  void find_items(std::string_view array);

  DataFile file_;
  std::vector<Record> records_;
};

/// Parses one value. Throws Error(kBadInput) with file, line and column; `text` begins in `line`.
ESPALIER_API Value parse_record(std::string_view text, const std::string& path, std::size_t line);

/// The records of a JSON file, in file order.
ESPALIER_API std::shared_ptr<const RecordSource> json_records(JsonFile file);

/// The texts of the items of a JSON array. `array` is valid JSON.
ESPALIER_API std::vector<std::string_view> json_items(std::string_view array);

/// The raw keys of a JSON object, without quotes, and the texts of their values. `object` is valid
/// JSON.
ESPALIER_API std::vector<std::pair<std::string_view, std::string_view>> json_members(
    std::string_view object);

}  // namespace espalier
