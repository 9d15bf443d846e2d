#include "config/overrides.h"

#include <optional>

#include "config/toml.h"

namespace espalier::config {
namespace {

/// "optimizer.lr" -> {"optimizer", "lr"}; nothing when it is no dotted key.
std::optional<std::vector<std::string>> split_path(const std::string& text) {
  if (text.find_first_of("\n\r#=[]{}") != std::string::npos) return std::nullopt;
  std::vector<std::string> path;
  try {
    Value document = parse_toml(text + " = 0", "");
    const Value* current = &document;
    while (current->is_table()) {
      const auto& [key, value] = *current->as_table().begin();
      path.push_back(key);
      current = &value;
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return path;
}

void set_positions(Value& value, const SourcePosition& position) {
  value.at(position);
  if (value.is_array()) {
    for (Value& item : value.as_array()) set_positions(item, position);
  } else if (value.is_table()) {
    for (auto& [key, member] : value.as_table()) set_positions(member, position);
  }
}

Value parse_override_value(const std::string& text, const SourcePosition& position) {
  Value value(text);
  try {
    Value document = parse_toml("v = " + text, position.file);
    // More than one member: the text closed the value and went on with another key.
    if (document.as_table().size() == 1) value = *document.find("v");
  } catch (const Error&) {
    // Not TOML: text without quotes, such as a path.
  }
  set_positions(value, position);
  return value;
}

void apply_override(Value& tree, const std::string& word, ProblemList& problems) {
  const std::size_t equals = word.find('=');
  const std::string option = word.substr(0, equals);
  const SourcePosition position{option, 0, 0};
  const std::size_t dashes = option.starts_with("--") ? 2 : 0;
  const auto path = split_path(option.substr(dashes));
  if (equals == std::string::npos || !path) {
    problems.add({ErrorCode::kBadInput,
                  "an override is malformed",
                  word,
                  "--section.key=value",
                  "the command line",
                  {}});
    return;
  }
  Value* place = &tree;
  for (std::size_t i = 0; i < path->size(); ++i) {
    if (place->is_null()) *place = Value(Table()).at(position);
    if (!place->is_table()) {
      problems.add({ErrorCode::kBadInput,
                    "override '" + option + "' leads through a value that is no table",
                    (*path)[i - 1] + " is " + std::string(type_phrase(place->type())), "a table",
                    option, "the value was written at " + place->position().to_string()});
      return;
    }
    place = &place->as_table()[(*path)[i]];
  }
  *place = parse_override_value(word.substr(equals + 1), position);
}

}  // namespace

void apply_overrides(Value& tree, const std::vector<std::string>& overrides,
                     ProblemList& problems) {
  for (const std::string& word : overrides) apply_override(tree, word, problems);
}

}  // namespace espalier::config
