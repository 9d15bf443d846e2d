#include "engine/train/metric_watch.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/suggest.h"

namespace espalier {
namespace {

void collect_names(const Value& value, const std::string& path, std::vector<std::string>& names) {
  if (value.is_number()) names.push_back(path);
  if (!value.is_table()) return;
  for (const auto& [key, item] : value.as_table())
    collect_names(item, path.empty() ? key : path + "." + key, names);
}

}  // namespace

Value WatchState::to_value() const {
  Table table;
  table.set("looked_at", looked_at);
  table.set("best_step", best_step);
  table.set("best", best);
  table.set("looks_since", looks_since);
  return table;
}

WatchState WatchState::from_value(const Value& value) {
  WatchState state;
  const auto read = [&](const char* key, std::int64_t& target) {
    if (const Value* found = value.find(key)) target = found->as_int();
  };
  read("looked_at", state.looked_at);
  read("best_step", state.best_step);
  read("looks_since", state.looks_since);
  if (const Value* best = value.find("best")) state.best = best->as_float();
  return state;
}

MetricWatch::MetricWatch(std::string metric, const std::string& mode, double min_delta,
                         std::string section)
    : metric_(std::move(metric)),
      less_is_better_(mode == "min"),
      min_delta_(min_delta),
      section_(std::move(section)) {}

std::string MetricWatch::check_source(const std::vector<std::string>& sources) const {
  std::string source = metric_.substr(0, metric_.find('.'));
  const bool known = std::find(sources.begin(), sources.end(), source) != sources.end();
  if (known && source.size() + 1 < metric_.size()) return source;
  throw_bad_input("the metric '" + metric_ + "' is in no log of this run", source,
                  "one of " + join_names(sources) + ", a point, and a number of its lines",
                  section_, "write validation.loss, with a [validation_dataset], or training.loss");
}

double MetricWatch::value_in(const LatestLines& lines) const {
  const std::size_t point = metric_.find('.');
  const Value& line = lines.at(metric_.substr(0, point));
  const std::string key = metric_.substr(point + 1);
  const Value* value = line.find_path(key);
  if (value != nullptr && value->is_number()) return value->as_float();
  std::vector<std::string> names;
  collect_names(line, {}, names);
  throw_bad_input("the log has no number '" + key + "'", metric_, "one of " + join_names(names),
                  section_, did_you_mean(key, names));
}

bool MetricWatch::look(std::int64_t step, const LatestLines& lines) {
  const double value = value_in(lines);
  state_.looked_at = step;
  const double gain = less_is_better_ ? state_.best - value : value - state_.best;
  const bool better = std::isfinite(value) && (state_.best_step < 0 || gain > min_delta_);
  if (!better) {
    ++state_.looks_since;
    return false;
  }
  state_.best = value;
  state_.best_step = step;
  state_.looks_since = 0;
  return true;
}

}  // namespace espalier
