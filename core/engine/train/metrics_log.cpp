#include "engine/train/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <sstream>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr std::int64_t kNoStep = -1;

std::int64_t step_of(const Value& line) {
  const Value* step = line.find("step");
  return step != nullptr && step->is_int() ? step->as_int() : kNoStep;
}

Value value_of_text(const std::string& line) {
  try {
    return parse_json(line, {.allow_nonfinite = true});
  } catch (const Error&) {
    return {};  // torn by a full disk or a kill; the step is run again
  }
}

/// Returns the last line that stays.
Value drop_later_lines(const std::string& path, std::int64_t keep_steps) {
  Value last;
  if (!std::filesystem::exists(path)) return last;
  const std::string content = read_file(path);
  std::istringstream lines(content);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    Value value = value_of_text(line);
    const std::int64_t step = step_of(value);
    if (step == kNoStep || step > keep_steps) continue;
    kept += line + "\n";
    last = std::move(value);
  }
  if (kept != content) write_file_atomically(path, kept);
  return last;
}

}  // namespace

MetricsLog::MetricsLog(std::string path, std::int64_t keep_steps) : path_(std::move(path)) {
  last_line_ = drop_later_lines(path_, keep_steps);
  last_step_ = step_of(last_line_);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_io("open", path_, errno);
}

MetricsLog::~MetricsLog() { ::close(descriptor_); }

void MetricsLog::append(const Value& line) {
  const std::string text = dump_json(line) + "\n";
  std::string_view left = text;
  while (!left.empty()) {
    const ssize_t count = ::write(descriptor_, left.data(), left.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io("write", path_, errno);
    left.remove_prefix(static_cast<std::size_t>(count));
  }
  last_step_ = step_of(line);
  last_line_ = line;
}

void MetricsLog::sync() {
  if (::fsync(descriptor_) != 0) throw_io("sync", path_, errno);
}

}  // namespace espalier
