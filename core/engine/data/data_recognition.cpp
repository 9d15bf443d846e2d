#include "engine/data/data_recognition.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/data/record_files.h"
#include "espalier/data/source_files.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kRecordsLookedAt = 50;
constexpr std::int64_t kLabelsLookedAt = 20000;
constexpr std::size_t kEndingWeight = 100;  // a file's kind says more than its records' keys

std::vector<std::string> texts(const Value& value, const char* key) {
  std::vector<std::string> list;
  const Value* found = value.find(key);
  if (found == nullptr) return list;
  for (const Value& item : found->as_array()) list.push_back(item.as_string());
  return list;
}

bool ends_in(const std::string& file, const std::vector<std::string>& endings) {
  const std::string name = content_name(file);
  return std::any_of(endings.begin(), endings.end(),
                     [&](const std::string& ending) { return name.ends_with(ending); });
}

bool has_neighbour(const std::string& file, const std::string& ending) {
  return ending.empty() || fs::exists(fs::path(file).replace_extension(ending));
}

/// How much the pattern asks for; 0: it does not fit.
std::size_t fit(const DataPattern& pattern, const DataSketch& sketch) {
  if (!pattern.endings.empty()) {
    if (!ends_in(sketch.file, pattern.endings) || !has_neighbour(sketch.file, pattern.beside))
      return 0;
    return kEndingWeight + (pattern.beside.empty() ? 0 : 1);
  }
  const bool all =
      std::all_of(pattern.fields.begin(), pattern.fields.end(), [&](const std::string& field) {
        return std::find(sketch.fields.begin(), sketch.fields.end(), field) != sketch.fields.end();
      });
  return all ? pattern.fields.size() : 0;
}

}  // namespace

DataPattern DataPattern::from_value(const std::string& component, const Value& value) {
  DataPattern pattern;
  pattern.component = component;
  pattern.fields = texts(value, "fields");
  pattern.endings = texts(value, "endings");
  if (const Value* beside = value.find("beside")) pattern.beside = beside->as_string();
  if (const Value* label = value.find("label")) pattern.label = label->as_string();
  if (const Value* adapter = value.find("adapter")) pattern.adapter = adapter->as_bool();
  Table path;
  path.set("path", "{path}");
  const Value* settings = value.find("settings");
  pattern.settings = settings == nullptr ? Value(std::move(path)) : *settings;
  const Value* sections = value.find("sections");
  pattern.sections = sections == nullptr ? Value(Table()) : *sections;
  return pattern;
}

std::string DataPattern::to_string() const {
  std::string text;
  for (const std::string& field : fields) text += (text.empty() ? "" : " and ") + field;
  for (const std::string& ending : endings)
    text += (text.empty() ? "files ending in " : " or ") + ending;
  return beside.empty() ? text : text + " with " + beside + " beside it";
}

DataSketch sketch_data(const std::string& path, const std::vector<DataPattern>& patterns) {
  std::vector<std::string> endings = record_file_endings();
  for (const DataPattern& pattern : patterns)
    endings.insert(endings.end(), pattern.endings.begin(), pattern.endings.end());
  const std::vector<std::string> files = find_data_files({path}, "train", endings);
  DataSketch sketch;
  sketch.file = files.front();
  sketch.files = files.size();
  const bool by_name = std::any_of(
      patterns.begin(), patterns.end(),
      [&](const DataPattern& pattern) { return fit(pattern, sketch) >= kEndingWeight; });
  if (by_name) return sketch;
  try {
    const auto records = open_records(sketch.file);
    for (std::int64_t i = 0; i < std::min(records->size(), kRecordsLookedAt); ++i) {
      const Value record = records->record(i);
      std::vector<std::string> fields;
      for (const auto& [key, value] : record.as_table()) {
        const bool known = i == 0 || std::find(sketch.fields.begin(), sketch.fields.end(), key) !=
                                         sketch.fields.end();
        if (known) fields.push_back(key);
      }
      sketch.fields = std::move(fields);
    }
  } catch (const Error& error) {
    sketch.no_records = error.problems().front().what;
  }
  return sketch;
}

const DataPattern& recognise(const DataSketch& sketch, const std::vector<DataPattern>& patterns,
                             const std::string& path) {
  const DataPattern* best = nullptr;
  std::size_t most = 0;
  for (const DataPattern& pattern : patterns) {
    if (const std::size_t asks = fit(pattern, sketch); asks > most) {
      most = asks;
      best = &pattern;
    }
  }
  if (best != nullptr) return *best;
  std::vector<std::string> known;
  known.reserve(patterns.size());
  for (const DataPattern& pattern : patterns) known.push_back(pattern.to_string());
  std::string found = sketch.no_records;
  if (found.empty())
    found = sketch.fields.empty() ? "records without a field that all have"
                                  : "records with " + join_names(sketch.fields);
  throw_bad_input(
      "no dataset is known for this data", found, "one of: " + join_names(known), path,
      "write [dataset] by hand: espalier plugins list shows the datasets, and some take "
      "the names of your columns");
}

LabelSet labels_of(const std::string& file, const std::string& field) {
  const auto records = open_records(file);
  std::set<std::string> names;
  LabelSet labels;
  const auto add = [&](const Value& value) {
    if (value.is_int())
      labels.count = std::max(labels.count, value.as_int() + 1);
    else if (value.is_string())
      names.insert(value.as_string());
  };
  for (std::int64_t i = 0; i < std::min(records->size(), kLabelsLookedAt); ++i) {
    const Value record = records->record(i);
    const Value* value = record.find(field);
    if (value == nullptr) continue;
    if (!value->is_array()) {
      add(*value);
    } else {
      for (const Value& item : value->as_array()) add(item);
    }
  }
  if (!names.empty()) {
    labels.names.assign(names.begin(), names.end());
    labels.count = static_cast<std::int64_t>(labels.names.size());
  }
  return labels;
}

}  // namespace espalier
