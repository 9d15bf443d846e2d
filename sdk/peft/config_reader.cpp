#include "espalier/peft/config_reader.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::peft {

const Value* PeftReader::find(const char* key) const {
  const Value* value = config_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool PeftReader::flag(const char* key) const {
  const Value* value = find(key);
  require(value == nullptr || value->is_bool(), key, "true or false");
  return value != nullptr && value->as_bool();
}

double PeftReader::number(const char* key, double fallback) const {
  const Value* value = find(key);
  require(value == nullptr || value->is_number(), key, "a number");
  return value == nullptr ? fallback : value->as_float();
}

std::string PeftReader::text(const char* key, const std::string& fallback) const {
  const Value* value = find(key);
  require(value == nullptr || value->is_string(), key, "a text");
  return value == nullptr ? fallback : value->as_string();
}

std::vector<std::string> PeftReader::texts(const char* key, bool single) const {
  const Value* value = find(key);
  if (value == nullptr) return {};
  if (single && value->is_string()) return {value->as_string()};
  require(value->is_array(), key, "a list of texts");
  std::vector<std::string> list;
  for (const Value& item : value->as_array()) {
    require(item.is_string(), key, "a list of texts");
    list.push_back(item.as_string());
  }
  return list;
}

std::vector<std::int64_t> PeftReader::numbers(const char* key) const {
  const Value* value = find(key);
  if (value == nullptr) return {};
  if (value->is_int()) return {value->as_int()};
  require(value->is_array(), key, "a number or a list of numbers");
  std::vector<std::int64_t> list;
  for (const Value& item : value->as_array()) {
    require(item.is_int(), key, "a number or a list of numbers");
    list.push_back(item.as_int());
  }
  return list;
}

const Table& PeftReader::table(const char* key) const {
  static const Table kNone;
  const Value* value = find(key);
  require(value == nullptr || value->is_table(), key, "a table of patterns");
  return value == nullptr ? kNone : value->as_table();
}

void PeftReader::require(bool condition, const char* key, const char* expected) const {
  if (condition) return;
  throw_bad_input(std::string("'") + key + "' of the adapter's config is wrong", {}, expected,
                  path_);
}

void PeftReader::require_kind(const char* kind) const {
  const std::string found = text("peft_type", "");
  if (found != kind)
    throw_bad_input("the adapter is of another kind", found, std::string("peft_type ") + kind,
                    path_);
}

void PeftReader::refuse(std::initializer_list<const char*> keys) const {
  for (const char* key : keys) {
    const Value* value = find(key);
    if (value == nullptr || (value->is_bool() && !value->as_bool())) continue;
    if ((value->is_array() && value->as_array().empty()) ||
        (value->is_table() && value->as_table().empty()))
      continue;
    throw Error(Problem{ErrorCode::kUnsupported,
                        std::string("the adapter uses '") + key + "', which is not supported",
                        {},
                        {},
                        path_,
                        "merge it into its base with PEFT (merge_and_unload)"});
  }
}

namespace {

/// Names and their ends mean the same to PEFT; wildcards and regular expressions in a list do not.
bool is_plain(const std::vector<std::string>& patterns) {
  return std::none_of(patterns.begin(), patterns.end(), [](const std::string& pattern) {
    return pattern.find_first_of("*?\\()[]|^$+{}") != std::string::npos;
  });
}

}  // namespace

Selection selection_from(const PeftReader& read) {
  Selection selection;
  selection.plain_names = true;
  const Value* targets = read.find("target_modules");
  if (targets != nullptr && targets->is_string() && targets->as_string() != "all-linear") {
    selection.target_regex = targets->as_string();
  } else if (targets != nullptr && targets->is_string()) {
    selection.all_linear = true;
  } else {
    selection.targets = read.texts("target_modules");
    const bool others = read.find("target_parameters") != nullptr;
    read.require(others || !selection.targets.empty(), "target_modules", "names of modules");
  }
  const Value* excludes = read.find("exclude_modules");
  if (excludes != nullptr && excludes->is_string())
    selection.exclude_regex = excludes->as_string();
  else
    selection.excludes = read.texts("exclude_modules");
  selection.layers = read.numbers("layers_to_transform");
  selection.layers_pattern = read.texts("layers_pattern", true);
  return selection;
}

Value list_of(const std::vector<std::string>& texts) {
  return texts.empty() ? Value() : Value(Array(texts.begin(), texts.end()));
}

void set_selection(Table& table, const Selection& selection,
                   const std::vector<std::string>& modules) {
  const bool as_given =
      selection.plain_names || (!selection.all_linear && selection.target_regex.empty() &&
                                is_plain(selection.targets) && is_plain(selection.excludes));
  if (!as_given || selection.all_linear) {
    table.set("target_modules", list_of(modules));
    table.set("exclude_modules", Value());
    table.set("layers_to_transform", Value());
    table.set("layers_pattern", Value());
    return;
  }
  table.set("target_modules", selection.target_regex.empty() ? list_of(selection.targets)
                                                             : Value(selection.target_regex));
  table.set("exclude_modules", selection.exclude_regex.empty() ? list_of(selection.excludes)
                                                               : Value(selection.exclude_regex));
  Array layers;
  for (const std::int64_t layer : selection.layers) layers.emplace_back(layer);
  table.set("layers_to_transform", layers.empty() ? Value() : Value(std::move(layers)));
  table.set("layers_pattern", list_of(selection.layers_pattern));
}

Value number(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? Value(whole) : Value(value);
}

}  // namespace espalier::peft
