#include "report/run_records.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/recipe.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier::report {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipe = "recipe.resolved.toml";

/// Whether a process holds a lock on the folder, as training does. Looked up, not tried: trying
/// would be in the way of a run that starts at this moment.
bool is_held(const std::string& folder) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) return false;
  char wanted[64];
  std::snprintf(wanted, sizeof wanted, " %02x:%02x:%llu ", ::major(status.st_dev),
                ::minor(status.st_dev), static_cast<unsigned long long>(status.st_ino));
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    if (line.find(" FLOCK ") != std::string::npos && line.find(wanted) != std::string::npos)
      return true;
  }
  return false;
}

/// A run that is being written may have a file half made; the next look finds it whole.
Value read_json_or(const fs::path& path, Value otherwise) {
  if (!fs::exists(path)) return otherwise;
  try {
    return read_json_file(path.string());
  } catch (const Error&) {
    return otherwise;
  }
}

std::string folder_of(const std::string& given) {
  if (!fs::is_directory(given)) {
    throw_bad_input("there is no run folder '" + given + "'", {},
                    "the output_dir of a run, a folder with training.jsonl", given,
                    "espalier train writes it; output_dir is runs/ and the recipe's name unless "
                    "the recipe says otherwise");
  }
  if (!fs::exists(fs::path(given) / "training.jsonl") && !fs::exists(fs::path(given) / kRecipe)) {
    throw_bad_input("'" + given + "' is no run folder", "no training.jsonl in it",
                    "the output_dir of a run, a folder with training.jsonl", given,
                    "give the folder of one run, not the one above it or its checkpoints");
  }
  return given;
}

}  // namespace

RunRecords::RunRecords(const std::string& folder)
    : folder_(folder_of(folder)), training_((fs::path(folder_) / "training.jsonl").string()) {
  update();
}

void RunRecords::find_validation_logs() {
  std::error_code ignored;  // a folder that is gone has no logs
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("validation") || !name.ends_with(".jsonl")) continue;
    const std::string source = name.substr(0, name.size() - 6);
    if (source == "validation" || source.starts_with("validation_"))
      validation_.try_emplace(source, entry.path().string());
  }
}

bool RunRecords::update() {
  const fs::path folder(folder_);
  bool changed = training_.update();
  find_validation_logs();
  for (auto& [source, log] : validation_) changed = log.update() || changed;
  if (!changed && !recipe_.as_table().empty()) return false;
  if (const fs::path recipe = folder / kRecipe; fs::exists(recipe)) {
    try {
      recipe_ = config::load_recipe(recipe.string()).tree;
    } catch (const Error&) {
      recipe_ = Value(Table());  // written by hand, or by another version: the numbers still count
    }
  }
  const Value lock = read_json_or(folder / "plugins.lock", Value(Table()));
  const Value* plugins = lock.find("plugins");
  plugins_ = plugins != nullptr && plugins->is_array() ? plugins->as_array() : Array();
  facts_ = read_json_or(folder / "run.json", Value(Table()));
  return changed;
}

std::optional<std::int64_t> RunRecords::total_steps() const {
  const Value* total = facts_.find("total_steps");
  if (total == nullptr || !total->is_int()) total = recipe_.find_path("step_scheduler.max_steps");
  return total != nullptr && total->is_int() ? std::optional(total->as_int()) : std::nullopt;
}

RunStatus RunRecords::status() const {
  const Value* ended = facts_.find("ended");
  if (is_held(folder_)) return RunStatus::kTraining;
  const std::int64_t last = training_.steps().empty() ? 0 : training_.steps().back();
  const bool complete = total_steps() && last >= *total_steps();
  return complete || (ended != nullptr && ended->is_string()) ? RunStatus::kFinished
                                                              : RunStatus::kStopped;
}

Array RunRecords::read_lines(const char* file) const {
  const fs::path path = fs::path(folder_) / file;
  Array found;
  if (!fs::exists(path)) return found;
  std::istringstream lines(read_file(path.string()));
  for (std::string line; std::getline(lines, line);) {
    try {
      found.push_back(parse_json(line));
    } catch (const Error&) {
      continue;  // the last line, while it is written
    }
  }
  return found;
}

std::string short_number(double value) {
  constexpr std::array kUnits = {"", "k", "M", "G", "T"};
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  std::size_t unit = 0;
  double shown = value;
  while (std::abs(shown) >= 10000 && unit + 1 < kUnits.size()) {
    shown /= 1000;
    ++unit;
  }
  char text[32];
  const double size = std::abs(shown);
  if (size != 0 && size < 0.001)
    std::snprintf(text, sizeof text, "%.2e", shown);
  else
    std::snprintf(text, sizeof text, "%.4g", shown);
  return text + std::string(kUnits[unit]);
}

std::string duration_text(double seconds) {
  const auto total = std::llround(seconds);
  char text[32];
  if (total >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60,
                  total % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", total / 60, total % 60);
  return text;
}

std::string bytes_text(double bytes) {
  constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.3g %s", bytes, kUnits[unit]);
  return text;
}

}  // namespace espalier::report
