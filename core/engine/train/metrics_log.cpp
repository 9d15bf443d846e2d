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

bool is_kept(const std::string& line, std::int64_t keep_steps) {
  try {
    const Value value = parse_json(line);
    const Value* step = value.find("step");
    return step != nullptr && step->is_int() && step->as_int() <= keep_steps;
  } catch (const Error&) {
    return false;  // torn by a full disk or a kill; the step is run again
  }
}

void drop_later_lines(const std::string& path, std::int64_t keep_steps) {
  if (!std::filesystem::exists(path)) return;
  const std::string content = read_file(path);
  std::istringstream lines(content);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (is_kept(line, keep_steps)) kept += line + "\n";
  }
  if (kept != content) write_file_atomically(path, kept);
}

}  // namespace

MetricsLog::MetricsLog(std::string path, std::int64_t keep_steps) : path_(std::move(path)) {
  drop_later_lines(path_, keep_steps);
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
}

}  // namespace espalier
