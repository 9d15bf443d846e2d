#include "config/substitution.h"

#include <cctype>
#include <cstdlib>
#include <optional>

#include "config/toml.h"

namespace espalier::config {
namespace {

bool is_variable_name(std::string_view name) {
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_') return false;
  }
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name.front())) == 0;
}

/// The number or boolean that `text` spells in TOML, else the text itself.
Value typed(const std::string& text, const SourcePosition& position) {
  Value value(text);
  if (text.find_first_of("\n\r\"'[]{},#=") == std::string::npos && !text.empty()) {
    try {
      const Value document = parse_toml("v = " + text, position.file);
      const Value& parsed = *document.find("v");
      if (parsed.is_number() || parsed.is_bool()) value = parsed;
    } catch (const Error&) {
      // Not a literal of TOML, so it is text.
    }
  }
  value.at(position);
  return value;
}

class Substitution {
 public:
  explicit Substitution(ProblemList& problems) : problems_(problems) {}

  void apply(Value& value) {
    if (value.is_table()) {
      for (auto& [key, member] : value.as_table()) apply(member);
    } else if (value.is_array()) {
      for (Value& item : value.as_array()) apply(item);
    } else if (value.is_string() && value.as_string().find("${") != std::string::npos) {
      apply_to_text(value);
    }
  }

 private:
  void apply_to_text(Value& value) {
    const SourcePosition position = value.position();
    const std::string text = value.as_string();
    std::string result;
    bool whole = false;
    std::size_t i = 0;
    while (i < text.size()) {
      const std::string_view rest = std::string_view(text).substr(i);
      if (rest.starts_with("$${")) {
        result += "${";
        i += 3;
      } else if (rest.starts_with("${")) {
        const std::size_t close = rest.find('}');
        const std::optional<std::string> replaced =
            close == std::string_view::npos ? malformed(text, position)
                                            : look_up(rest.substr(2, close - 2), text, position);
        if (!replaced) return;
        result += *replaced;
        whole = i == 0 && close + 1 == text.size();
        i += close + 1;
      } else {
        result += text[i++];
      }
    }
    value = whole ? typed(result, position) : Value(result).at(position);
  }

  std::optional<std::string> malformed(const std::string& text, const SourcePosition& position) {
    problems_.add({ErrorCode::kBadInput, "a reference to the environment is malformed", text,
                   "${NAME} or ${NAME:default}", position.to_string(),
                   "write $${ for a literal ${"});
    return std::nullopt;
  }

  std::optional<std::string> look_up(std::string_view reference, const std::string& text,
                                     const SourcePosition& position) {
    const std::size_t colon = reference.find(':');
    const std::string name(reference.substr(0, colon));
    if (!is_variable_name(name)) return malformed(text, position);
    if (const char* set = std::getenv(name.c_str())) return set;
    if (colon != std::string_view::npos) return std::string(reference.substr(colon + 1));
    problems_.add({ErrorCode::kBadInput, "the environment variable " + name + " is not set", text,
                   "a value for " + name, position.to_string(),
                   "export " + name + "=..., or give a default: ${" + name + ":default}"});
    return std::nullopt;
  }

  ProblemList& problems_;
};

}  // namespace

void substitute_environment(Value& tree, ProblemList& problems) {
  Substitution(problems).apply(tree);
}

}  // namespace espalier::config
