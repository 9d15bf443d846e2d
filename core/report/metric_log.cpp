#include "report/metric_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier::report {
namespace {

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

/// Numbers of a line by dotted name.
void collect(const Value& value, const std::string& name, std::map<std::string, double>& numbers) {
  if (value.is_number()) {
    numbers[name] = value.as_float();
  } else if (value.is_table()) {
    for (const auto& [key, item] : value.as_table())
      collect(item, name.empty() ? key : name + "." + key, numbers);
  }
}

}  // namespace

const std::vector<double>* MetricLog::column(const std::string& name) const {
  const auto found = columns_.find(name);
  return found == columns_.end() ? nullptr : &found->second;
}

void MetricLog::start_over() {
  steps_.clear();
  columns_.clear();
  rest_.clear();
  damaged_ = 0;
  read_ = 0;
}

void MetricLog::add_line(const std::string& line) {
  std::map<std::string, double> numbers;
  try {
    const Value value = parse_json(line, {.file = path_, .allow_nonfinite = true});
    if (value.is_table()) collect(value, {}, numbers);
  } catch (const Error&) {
    numbers.clear();  // counted below
  }
  const auto step = numbers.find("step");
  if (step == numbers.end()) {
    ++damaged_;
    return;
  }
  const auto number = static_cast<std::int64_t>(step->second);
  // A step that comes again takes the place of the first time.
  const auto place = std::lower_bound(steps_.begin(), steps_.end(), number) - steps_.begin();
  steps_.resize(static_cast<std::size_t>(place));
  for (auto& [name, values] : columns_) values.resize(steps_.size());
  steps_.push_back(number);
  numbers.erase(step);
  for (const auto& [name, value] : numbers) columns_[name].resize(steps_.size(), kAbsent);
  for (auto& [name, values] : columns_) {
    values.resize(steps_.size(), kAbsent);
    if (const auto found = numbers.find(name); found != numbers.end())
      values.back() = found->second;
  }
}

bool MetricLog::update() {
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) {
    const bool had_lines = !steps_.empty();
    start_over();
    return had_lines;
  }
  if (descriptor < 0) throw_io("open", path_, errno);
  struct stat status {};
  ::fstat(descriptor, &status);
  bool changed = false;
  if (status.st_ino != file_ || static_cast<std::uint64_t>(status.st_size) < read_) {
    start_over();
    file_ = status.st_ino;
    changed = true;
  }
  std::string piece(1U << 18U, '\0');
  while (true) {
    const ssize_t count =
        ::pread(descriptor, piece.data(), piece.size(), static_cast<off_t>(read_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int failure = errno;
      ::close(descriptor);
      throw_io("read", path_, failure);
    }
    if (count == 0) break;
    changed = true;
    read_ += static_cast<std::uint64_t>(count);
    rest_.append(piece, 0, static_cast<std::size_t>(count));
    std::size_t begin = 0;
    for (std::size_t end = rest_.find('\n'); end != std::string::npos;
         begin = end + 1, end = rest_.find('\n', begin)) {
      if (end > begin) add_line(rest_.substr(begin, end - begin));
    }
    rest_.erase(0, begin);
  }
  ::close(descriptor);
  return changed;
}

}  // namespace espalier::report
