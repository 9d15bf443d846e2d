#include "espalier/data/csv_records.h"

#include <simdjson.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "espalier/base/error.h"

namespace espalier {
namespace {

/// Reads the fields of one row after the other.
class CsvReader {
 public:
  CsvReader(std::string_view text, char delimiter, const std::string& path)
      : text_(text), delimiter_(delimiter), path_(path) {}

  bool at_end() const { return place_ == text_.size(); }
  std::size_t place() const { return place_; }
  std::size_t line() const { return line_; }
  void move_to(std::size_t place, std::size_t line) {
    place_ = place;
    line_ = line;
  }

  void skip_blank_lines() {
    while (!at_end() && (text_[place_] == '\n' || text_.substr(place_, 2) == "\r\n")) end_line();
  }

  /// Reads up to the next row. `fields` may be null where only the end of the row is of interest.
  void read_row(std::vector<std::string>* fields) {
    while (true) {
      std::string field = read_field(fields != nullptr);
      if (fields != nullptr) fields->push_back(std::move(field));
      if (at_end() || text_[place_] != delimiter_) break;
      ++place_;
    }
    if (!at_end()) end_line();
  }

 private:
  void end_line() {
    if (text_[place_] == '\r') ++place_;
    ++place_;
    ++line_;
  }

  bool at_line_end() const {
    return text_[place_] == '\n' || (text_[place_] == '\r' && text_.substr(place_, 2) == "\r\n");
  }

  std::string read_field(bool keep) {
    if (!at_end() && text_[place_] == '"') return read_quoted_field(keep);
    const std::size_t begin = place_;
    while (!at_end() && text_[place_] != delimiter_ && !at_line_end()) ++place_;
    return keep ? std::string(text_.substr(begin, place_ - begin)) : std::string();
  }

  std::string read_quoted_field(bool keep) {
    const std::size_t opened = line_;
    std::string field;
    ++place_;
    while (true) {
      const std::size_t quote = text_.find('"', place_);
      if (quote == std::string_view::npos) {
        throw_bad_input("a quoted field has no end", {}, "a closing quote", where(opened),
                        "write a quote inside a quoted field twice: \"\"");
      }
      const std::string_view part = text_.substr(place_, quote - place_);
      line_ += static_cast<std::size_t>(std::count(part.begin(), part.end(), '\n'));
      if (keep) field += part;
      place_ = quote + 1;
      if (at_end() || text_[place_] != '"') break;
      if (keep) field += '"';
      ++place_;
    }
    if (!at_end() && text_[place_] != delimiter_ && !at_line_end()) {
      throw_bad_input("text follows a quoted field", std::string(text_.substr(place_, 12)),
                      "the delimiter '" + std::string(1, delimiter_) + "' or the end of the line",
                      where(line_), "write a quote inside a quoted field twice: \"\"");
    }
    return field;
  }

  std::string where(std::size_t line) const { return path_ + ":" + std::to_string(line); }

  std::string_view text_;
  char delimiter_;
  const std::string& path_;
  std::size_t place_ = 0;
  std::size_t line_ = 1;
};

class CsvRecords final : public RecordSource {
 public:
  CsvRecords(DataFile file, char delimiter)
      : file_(std::move(file)), delimiter_(delimiter), text_(file_.text()) {
    const std::string& path = file_.path();
    require_utf8();
    CsvReader reader = this->reader();
    reader.skip_blank_lines();
    if (reader.at_end()) {
      throw_bad_input("the file is empty", {}, "a row of column names, then records", path,
                      "check that it was written and downloaded completely");
    }
    const std::size_t header_line = reader.line();
    reader.read_row(&columns_);
    require_distinct_columns(header_line);
    while (reader.skip_blank_lines(), !reader.at_end()) {
      rows_.push_back({reader.place(), reader.line()});
      reader.read_row(nullptr);
    }
    if (rows_.empty()) {
      throw_bad_input("the file has no records", "a header and nothing else", "at least one row",
                      path);
    }
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(rows_.size()); }

  Value record(std::int64_t index) const override {
    const Row& row = rows_[static_cast<std::size_t>(index)];
    CsvReader reader = this->reader();
    reader.move_to(row.place, row.line);
    std::vector<std::string> fields;
    reader.read_row(&fields);
    if (fields.size() != columns_.size()) {
      throw_bad_input("a row has another number of fields than the header",
                      std::to_string(fields.size()) + " fields",
                      std::to_string(columns_.size()) + " fields", where(index),
                      "put fields that hold '" + std::string(1, delimiter_) + "' in double quotes");
    }
    Table table;
    for (std::size_t i = 0; i < fields.size(); ++i) table.set(columns_[i], std::move(fields[i]));
    return table;
  }

  std::string where(std::int64_t index) const override {
    return file_.path() + ":" + std::to_string(rows_[static_cast<std::size_t>(index)].line);
  }

 private:
  struct Row {
    std::size_t place = 0;
    std::size_t line = 0;
  };

  CsvReader reader() const { return {text_, delimiter_, file_.path()}; }

  void require_utf8() const {
    if (simdjson::validate_utf8(text_)) return;
    std::size_t line = 1;
    for (std::string_view rest = text_; !rest.empty(); ++line) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      if (!simdjson::validate_utf8(rest.substr(0, end))) break;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    throw_bad_input("the file is not UTF-8", {}, "text in UTF-8",
                    file_.path() + ":" + std::to_string(line),
                    "convert it: iconv -f ISO-8859-1 -t UTF-8 OLD > NEW");
  }

  void require_distinct_columns(std::size_t line) const {
    std::set<std::string> seen;
    for (const std::string& column : columns_) {
      if (!seen.insert(column).second) {
        throw_bad_input("two columns have the same name", "'" + column + "'",
                        "a name of its own for each column",
                        file_.path() + ":" + std::to_string(line));
      }
    }
  }

  DataFile file_;
  char delimiter_;
  std::string_view text_;
  std::vector<std::string> columns_;
  std::vector<Row> rows_;
};

}  // namespace

std::shared_ptr<const RecordSource> open_csv_records(DataFile file, char delimiter) {
  return std::make_shared<CsvRecords>(std::move(file), delimiter);
}

}  // namespace espalier
