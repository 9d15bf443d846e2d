#include "report/page_data.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <set>
#include <string_view>

#include "espalier/base/json.h"
#include "report/block_statistics.h"
#include "report/thinning.h"

namespace espalier::report {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kClockPoints = 200;
constexpr std::size_t kLeastPoints = 50;  // of a curve, however many there are

/// Columns that every training log has, with a title of their own. The first of each is shown
/// where a run has it, the second otherwise.
struct KnownColumn {
  const char* column;
  const char* title;
  const char* unit;
};
constexpr std::array kKnown = {KnownColumn{"lr", "Learning rate", ""},
                               KnownColumn{"grad_norm", "Gradient norm", ""},
                               KnownColumn{"tokens_per_second", "Tokens per second", "rate"},
                               KnownColumn{"peak_device_bytes", "GPU memory, peak", "bytes"},
                               KnownColumn{"rss_bytes", "Memory", "bytes"}};
/// Shown elsewhere, or of no interest as a curve.
constexpr std::array kNotShown = {"epoch",        "num_tokens",          "num_label_tokens",
                                  "loss",         "num_computed_tokens", "peak_rss_bytes",
                                  "step_seconds", "terms.loss",          "seconds"};

const MetricLog* log_of(const RunRecords& run, const std::string& source) {
  if (source == "training") return &run.training();
  const auto found = run.validation().find(source);
  return found == run.validation().end() ? nullptr : &found->second;
}

bool any_has(const std::vector<RunRecords>& runs, const std::string& source,
             const std::string& column) {
  return std::any_of(runs.begin(), runs.end(), [&](const RunRecords& run) {
    const MetricLog* log = log_of(run, source);
    return log != nullptr && log->column(column) != nullptr;
  });
}

constexpr std::string_view kPeak = "memory_peaks.";  // bytes of the allocator, by purpose

/// Whether a column changes by more than a hundredth of its size in some run.
bool any_changes(const std::vector<RunRecords>& runs, const std::string& column) {
  return std::any_of(runs.begin(), runs.end(), [&](const RunRecords& run) {
    const std::vector<double>* values = run.training().column(column);
    if (values == nullptr) return false;
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    for (const double value : *values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    return high - low > 0.01 * std::abs(high);
  });
}

/// Words of a column's name: "terms.aux_loss" -> "aux loss".
std::string title_of(std::string column) {
  if (column.starts_with(kPeak)) return "Peak memory, " + column.substr(kPeak.size());
  if (column.starts_with("terms.")) column = column.substr(6);
  std::replace(column.begin(), column.end(), '_', ' ');
  return column;
}

/// As few digits as a curve needs; JSON has no infinities, and thinning left them out.
std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

template <class Get>
std::string list_of(std::size_t count, const Get& get) {
  std::string text = "[";
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) text += ',';
    text += number_text(get(i));
  }
  return text + "]";
}

/// Tokens and seconds that were used up at some steps, from which the script finds those between.
std::string clock_of(const MetricLog& log) {
  const std::vector<double>* tokens = log.column("num_tokens");
  const std::vector<double>* seconds = log.column("step_seconds");
  std::vector<double> all_tokens;
  std::vector<double> all_seconds;
  double token_sum = 0;
  double second_sum = 0;
  const auto add = [](double& sum, const std::vector<double>* values, std::size_t i) {
    if (values != nullptr && std::isfinite((*values)[i])) sum += (*values)[i];
    return sum;
  };
  for (std::size_t i = 0; i < log.steps().size(); ++i) {
    all_tokens.push_back(add(token_sum, tokens, i));
    all_seconds.push_back(add(second_sum, seconds, i));
  }
  std::vector<std::size_t> places;
  const std::size_t count = log.steps().size();
  for (std::size_t k = 0; k < std::min(count, kClockPoints); ++k)
    places.push_back(count <= kClockPoints ? k : k * (count - 1) / (kClockPoints - 1));
  const auto list = [&](const std::vector<double>& values) {
    return list_of(places.size(), [&](std::size_t i) { return values[places[i]]; });
  };
  std::string text = "{\"step\":" + list_of(places.size(), [&](std::size_t i) {
                       return static_cast<double>(log.steps()[places[i]]);
                     });
  if (tokens != nullptr) text += ",\"tokens\":" + list(all_tokens);
  if (seconds != nullptr) text += ",\"seconds\":" + list(all_seconds);
  return text + "}";
}

/// Steps in short: the first, then differences.
std::string steps_text(const std::vector<std::int64_t>& steps,
                       const std::vector<std::size_t>& places) {
  return list_of(places.size(), [&](std::size_t i) {
    return static_cast<double>(i == 0 ? steps[places[0]] : steps[places[i]] - steps[places[i - 1]]);
  });
}

}  // namespace

std::vector<std::string> names_of(const std::vector<RunRecords>& runs) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  bool unique = true;
  for (const RunRecords& run : runs) {
    names.push_back(fs::absolute(run.folder() + "/.").lexically_normal().parent_path().filename());
    unique = seen.insert(names.back()).second && unique;
  }
  if (unique) return names;
  names.clear();
  for (const RunRecords& run : runs) names.push_back(run.folder());
  return names;
}

std::vector<Chart> charts_of(const std::vector<RunRecords>& runs) {
  std::vector<Chart> charts;
  std::set<std::string> taken(kNotShown.begin(), kNotShown.end());
  if (any_has(runs, "training", "loss"))
    charts.push_back({"Training loss", "training", "loss", {}});
  std::set<std::string> sources;
  for (const RunRecords& run : runs) {
    for (const auto& [source, log] : run.validation()) {
      if (!log.steps().empty()) sources.insert(source);
    }
  }
  for (const std::string& source : sources) {
    const std::string name = source.size() > 11 ? ", " + source.substr(11) : "";
    charts.push_back({"Validation loss" + name, source, "loss", {}, false});
    if (any_has(runs, source, "ema_loss"))
      charts.push_back({"Validation loss of the average" + name, source, "ema_loss", {}, false});
  }
  for (const KnownColumn& known : kKnown) {
    taken.insert(known.column);
    // Beside that of the GPU, the memory of the process says little.
    const bool host_memory = std::string(known.column) == "rss_bytes";
    if (host_memory && any_has(runs, "training", "peak_device_bytes")) continue;
    if (any_has(runs, "training", known.column))
      charts.push_back(
          {known.title, "training", known.column, known.unit, std::string(known.column) != "lr"});
  }
  std::set<std::string> others;
  for (const RunRecords& run : runs) {
    for (const auto& [column, values] : run.training().columns()) {
      if (!taken.contains(column)) others.insert(column);
    }
  }
  for (const std::string& column : others) {
    // Of the allocator's peaks most are the same in every step, as the memory plan says them.
    const bool peak = column.starts_with(kPeak);
    if (peak && !any_changes(runs, column)) continue;
    charts.push_back({title_of(column), "training", column, peak ? "bytes" : ""});
  }
  return charts;
}

PageData page_data(const std::vector<RunRecords>& runs, const std::vector<Chart>& charts,
                   const PageOptions& options) {
  PageData data;
  const std::size_t limit = std::max(
      kLeastPoints, options.points / std::max<std::size_t>(1, runs.size() * charts.size()));
  Array names;
  for (const std::string& name : names_of(runs)) names.emplace_back(name);
  data.json = "{\"runs\":" + dump_json(Value(std::move(names))) + ",\"clock\":[";
  for (std::size_t r = 0; r < runs.size(); ++r)
    data.json += (r > 0 ? "," : "") + clock_of(runs[r].training());
  data.json += "],\n\"charts\":[";
  for (std::size_t c = 0; c < charts.size(); ++c) {
    const Chart& chart = charts[c];
    data.json += std::string(c > 0 ? ",\n" : "\n") + "{\"title\":" + dump_json(Value(chart.title)) +
                 ",\"unit\":\"" + chart.unit +
                 "\",\"smooth\":" + (chart.smooth ? "true" : "false") + ",\"curves\":[";
    bool first = true;
    for (std::size_t r = 0; r < runs.size(); ++r) {
      const MetricLog* log = log_of(runs[r], chart.log);
      const std::vector<double>* values = log == nullptr ? nullptr : log->column(chart.column);
      if (values == nullptr) continue;
      const std::vector<std::size_t> places = thin(*values, limit);
      if (places.empty()) continue;
      data.shown += places.size();
      data.all += log->steps().size();
      data.json += std::string(first ? "" : ",") + "\n{\"run\":" + std::to_string(r) +
                   ",\"of\":" + std::to_string(log->steps().size()) +
                   ",\"x\":" + steps_text(log->steps(), places) + ",\"y\":" +
                   list_of(places.size(), [&](std::size_t i) { return (*values)[places[i]]; }) +
                   "}";
      first = false;
    }
    data.json += "]}";
  }
  const std::string statistics = block_statistics(runs, options.statistics);
  data.has_statistics = statistics != "[]";
  data.json += "],\n\"statistics\":" + statistics + "}";
  // Inside a script element nothing may look like its end.
  for (std::size_t at = data.json.find('<'); at != std::string::npos;
       at = data.json.find('<', at + 1))
    data.json.replace(at, 1, "\\u003c");
  return data;
}

}  // namespace espalier::report
