// Recipes with one mistake, made from the schemas themselves: for every key of every section and
// component a misspelt name, a wrong type and a value out of range. Each has to be found at its
// place.
#include <gtest/gtest.h>

#include "config/recipe.h"
#include "config/sections.h"
#include "espalier/base/error.h"
#include "support/temporary_folder.h"

namespace espalier::config {
namespace {

struct Mistake {
  std::string line;        ///< what is put into the recipe
  std::string what;        ///< part of the problem
  std::string suggestion;  ///< part of the hint; may be empty
};

/// A value of the right type, written in TOML; the checks of ranges come after those of types.
std::string sound_value(const FieldSpec& field) {
  switch (field.type) {
    case FieldType::kBool: return "true";
    case FieldType::kInt: return "1";
    case FieldType::kFloat: return "0.5";
    case FieldType::kString: return "\"text\"";
    case FieldType::kList: return "[]";
    default: return "{}";
  }
}

std::string wrong_type(const FieldSpec& field) {
  return field.type == FieldType::kBool ? "\"yes\"" : "true";
}

std::string out_of_range(const FieldSpec& field) {
  const bool whole = field.type == FieldType::kInt;
  if (field.type != FieldType::kInt && field.type != FieldType::kFloat)
    return !field.choices.empty() ? "\"no_such_choice\"" : field.length ? "[]" : "";
  const double step = whole ? 1 : 0.5;
  double value = 0;
  if (field.minimum)
    value = *field.minimum - (field.exclusive_minimum ? 0 : step);
  else if (field.maximum)
    value = *field.maximum + (field.exclusive_maximum ? 0 : step);
  else
    return "";
  return whole ? std::to_string(static_cast<long long>(value)) : std::to_string(value);
}

std::vector<Mistake> mistakes_in(const SchemaSpec& schema, const std::string& prefix) {
  std::vector<Mistake> mistakes;
  for (const FieldSpec& field : schema.fields) {
    const std::string name = prefix + field.name;
    const std::string misspelt = prefix + field.name + "x";
    mistakes.push_back({misspelt + " = " + sound_value(field), "unknown key", "did you mean"});
    if (field.type != FieldType::kAny)
      mistakes.push_back({name + " = " + wrong_type(field), "has the wrong type", ""});
    if (const std::string value = out_of_range(field); !value.empty())
      mistakes.push_back({name + " = " + value, "'", ""});
    if (field.type == FieldType::kTable && field.table) {
      for (const Mistake& nested : mistakes_in(*field.table, name + "."))
        mistakes.push_back(nested);
    }
  }
  return mistakes;
}

void expect_found(const plugin::Catalog& catalog, const std::string& section,
                  const std::string& type, const Mistake& mistake) {
  std::string text = section.empty() ? mistake.line + "\n" : "# a comment\n\n";
  if (!section.empty()) {
    text += "[" + section + "]\n";
    if (!type.empty()) text += "type = \"" + type + "\"\n";
    text += "  " + mistake.line + "\n";
  }
  const std::size_t line = section.empty() ? 1 : type.empty() ? 4 : 5;
  std::size_t column = section.empty() ? 1 : 3;
  // With a dotted key, the part that is wrong is the last one.
  const std::string key = mistake.line.substr(0, mistake.line.find(" ="));
  if (const std::size_t dot = key.rfind('.'); dot != std::string::npos) column += dot + 1;
  const std::string where = "r.toml:" + std::to_string(line) + ":" + std::to_string(column);
  try {
    resolve_recipe(parse_recipe(text, "r.toml"), catalog);
    FAIL() << "accepted:\n" << text;
  } catch (const Error& error) {
    for (const Problem& problem : error.problems()) {
      if (problem.where == where && problem.what.find(mistake.what) != std::string::npos &&
          problem.hint.find(mistake.suggestion) != std::string::npos)
        return;
    }
    FAIL() << "expected '" << mistake.what << "' at " << where << " in\n"
           << text << "\n"
           << error.what();
  }
}

TEST(BadRecipes, EveryMistakeIsFoundAtItsPlace) {
  const plugin::Catalog catalog =
      plugin::Catalog::scan({.folders = {testing::environment("ESPALIER_TEST_BUILD") + "/zoo"},
                             .environment = false,
                             .installation = false});
  std::size_t count = 0;
  for (const Section& section : sections()) {
    const std::string name(section.name);
    if (section.schema != nullptr) {
      for (const Mistake& mistake : mistakes_in(section.schema(), "")) {
        expect_found(catalog, name, "", mistake);
        ++count;
      }
      continue;
    }
    for (const plugin::ComponentRef& ref : catalog.components(section.interface)) {
      for (const Mistake& mistake : mistakes_in(ref.component->schema, "")) {
        expect_found(catalog, name, ref.component->name, mistake);
        ++count;
      }
    }
  }
  EXPECT_GT(count, 100U);
}

}  // namespace
}  // namespace espalier::config
