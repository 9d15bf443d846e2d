#include "text/stop_text.h"

#include <algorithm>

namespace espalier::text {
namespace {

/// Bytes at the end of `text` that are the beginning of `stop`.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size) {
    if (text.ends_with(stop.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

StopText::StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopText::push(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  std::size_t first = std::string::npos;
  std::size_t kept = 0;
  for (const std::string& stop : stops_) {
    first = std::min(first, held_.find(stop));
    kept = std::max(kept, begun(held_, stop));
  }
  stopped_ = first != std::string::npos;
  const std::size_t shown = stopped_ ? first : held_.size() - kept;
  std::string result = held_.substr(0, shown);
  held_.erase(0, stopped_ ? held_.size() : shown);
  return result;
}

std::string StopText::finish() {
  std::string rest = std::move(held_);
  held_.clear();
  return rest;
}

}  // namespace espalier::text
