#include "engine/run/dropout_note.h"

#include "espalier/base/json.h"

namespace espalier {
namespace {

bool speaks_of_dropout(const std::string& key) {
  if (key.starts_with("summary_") || key.starts_with("classifier_")) return false;
  return key.find("dropout") != std::string::npos || key.ends_with("pdrop") || key == "layerdrop";
}

}  // namespace

std::string dropout_note(const Value& config) {
  std::string asked;
  for (const auto& [key, value] : config.as_table()) {
    if (!speaks_of_dropout(key) || !value.is_number() || value.as_float() <= 0) continue;
    asked += (asked.empty() ? "" : ", ") + key + " " + dump_json(value);
  }
  if (asked.empty()) return {};
  return "note: trains without dropout, though config.json asks for it (" + asked + ")";
}

}  // namespace espalier
