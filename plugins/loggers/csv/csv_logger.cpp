// A table for spreadsheets beside each JSON Lines file of a run: training.csv, validation.csv, ...
#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/sdk/logger.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

constexpr const char* kStep = "step";

/// Numbers of a line by name; those of a table inside as "terms.name".
std::map<std::string, std::string> numbers_of(const Value& values, const std::string& prefix = {}) {
  std::map<std::string, std::string> numbers;
  for (const auto& [key, value] : values.as_table()) {
    if (value.is_table())
      numbers.merge(numbers_of(value, prefix + key + "."));
    else if (value.is_number())
      numbers.emplace(prefix + key, dump_json(value));
  }
  return numbers;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  for (const char c : line) {
    if (c == ',')
      cells.emplace_back();
    else
      cells.back() += c;
  }
  return cells;
}

/// One file. It is written whole at each flush, so that a column which comes later has its place in
/// the first line.
class CsvTable {
 public:
  CsvTable(std::string path, std::int64_t last_step) : path_(std::move(path)) {
    if (last_step == 0 || !std::filesystem::exists(path_)) return;
    std::istringstream content(read_file(path_));
    std::string line;
    if (std::getline(content, line)) columns_ = cells_of(line);
    while (std::getline(content, line)) {
      const std::vector<std::string> cells = cells_of(line);
      if (std::strtoll(cells.front().c_str(), nullptr, 10) <= last_step) rows_.push_back(cells);
    }
  }

  void add(std::int64_t step, const Value& values) {
    std::vector<std::string> row(std::max<std::size_t>(columns_.size(), 1));
    if (columns_.empty()) columns_ = {kStep};
    row[0] = std::to_string(step);
    for (const auto& [name, text] : numbers_of(values)) {
      if (name == kStep) continue;
      const auto found = std::find(columns_.begin(), columns_.end(), name);
      const auto column = static_cast<std::size_t>(found - columns_.begin());
      if (found == columns_.end()) columns_.push_back(name);
      row.resize(std::max(row.size(), column + 1));
      row[column] = text;
    }
    rows_.push_back(std::move(row));
  }

  void write() const {
    std::string text;
    const auto append = [&](const std::vector<std::string>& cells) {
      for (std::size_t i = 0; i < columns_.size(); ++i)
        text += (i > 0 ? "," : "") + (i < cells.size() ? cells[i] : std::string());
      text += '\n';
    };
    append(columns_);
    for (const std::vector<std::string>& row : rows_) append(row);
    write_file_atomically(path_, text);
  }

 private:
  std::string path_;
  std::vector<std::string> columns_;  ///< the first is the step
  std::vector<std::vector<std::string>> rows_;
};

struct CsvConfig {
  static ConfigSchema<CsvConfig> schema() { return {}; }
};

class CsvLogger final : public Logger {
 public:
  using Config = CsvConfig;
  explicit CsvLogger(CsvConfig /*config*/) {}

  void start(const LoggedRun& run) override {
    folder_ = run.folder;
    last_step_ = run.resumed_after;
  }
  void log(const std::string& source, std::int64_t step, const Value& values) override {
    const std::string path = (std::filesystem::path(folder_) / (source + ".csv")).string();
    tables_.try_emplace(source, path, last_step_).first->second.add(step, values);
  }
  void flush() override {
    for (const auto& [source, table] : tables_) table.write();
  }

 private:
  std::string folder_;
  std::int64_t last_step_ = 0;
  std::map<std::string, CsvTable> tables_;
};

void register_components(Registrar& registrar) {
  registrar.add<Logger, CsvLogger>("csv", "tables for spreadsheets in the run folder");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.csv_logger", "0.1.0", espalier::register_components)
