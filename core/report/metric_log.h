#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace espalier::report {

/// A JSON Lines file of numbers by step, such as a run's training.jsonl, as columns. It may be read
/// while a run writes it. Not thread safe.
class MetricLog {
 public:
  explicit MetricLog(std::string path) : path_(std::move(path)) {}

  /// Reads what is new; true when there was something. A file that was replaced, as a resumed run
  /// does to take lines back, is read anew. Lines that are no JSON objects with a step are counted
  /// in `damaged`. Throws Error(kIo).
  bool update();

  const std::vector<std::int64_t>& steps() const { return steps_; }
  /// Column -> values, as long as steps(); NaN where a line has no such number. Numbers inside
  /// tables are columns with dotted names ("terms.ce").
  const std::map<std::string, std::vector<double>>& columns() const { return columns_; }
  /// nullptr when no line has it.
  const std::vector<double>* column(const std::string& name) const;
  std::int64_t damaged() const { return damaged_; }

 private:
  void start_over();
  void add_line(const std::string& line);

  std::string path_;
  std::vector<std::int64_t> steps_;
  std::map<std::string, std::vector<double>> columns_;
  std::int64_t damaged_ = 0;
  std::uint64_t file_ = 0;  ///< inode
  std::uint64_t read_ = 0;  ///< bytes
  std::string rest_;        ///< a line that is not complete yet
};

}  // namespace espalier::report
