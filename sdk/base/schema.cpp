#include "espalier/base/schema.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier {
namespace {

constexpr FieldType kAllTypes[] = {FieldType::kBool,   FieldType::kInt,       FieldType::kFloat,
                                   FieldType::kString, FieldType::kList,      FieldType::kTable,
                                   FieldType::kMap,    FieldType::kComponent, FieldType::kAny};

std::string number_text(double number) {
  if (number == std::floor(number) && std::abs(number) < 1e15)
    return std::to_string(static_cast<long long>(number));
  return dump_json(Value(number));
}

std::string range_text(const FieldSpec& field) {
  const std::string low = field.exclusive_minimum ? " > " : " >= ";
  const std::string high = field.exclusive_maximum ? " < " : " <= ";
  std::string text;
  if (field.minimum) text += low + number_text(*field.minimum);
  if (field.minimum && field.maximum) text += " and";
  if (field.maximum) text += high + number_text(*field.maximum);
  return text;
}

std::string joined(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : std::string(path) + "." + std::string(name);
}

/// Checks one value against one field; `path` is its full dotted name.
class FieldChecker {
 public:
  explicit FieldChecker(ProblemList& problems) : problems_(problems) {}

  void check(const FieldSpec& field, const Value& value, const std::string& path) {
    if (!type_matches(field, value)) {
      add("'" + path + "' has the wrong type",
          std::string(type_phrase(value.type())) + ": " + dump_json(value), expectation(field),
          value, type_hint(field, value));
      return;
    }
    check_number(field, value, path);
    check_choice(field, value, path);
    check_items(field, value, path);
  }

 private:
  void add(std::string what, std::string found, std::string expected, const Value& value,
           std::string hint = {}) {
    problems_.add({ErrorCode::kBadInput, std::move(what), std::move(found), std::move(expected),
                   value.position().to_string(), std::move(hint)});
  }

  static bool type_matches(const FieldSpec& field, const Value& value) {
    switch (field.type) {
      case FieldType::kBool: return value.is_bool();
      case FieldType::kInt: return value.is_int();
      case FieldType::kFloat: return value.is_number();
      case FieldType::kString: return value.is_string();
      case FieldType::kList:
        return value.is_array() ||
               (field.single && field.element && type_matches(*field.element, value));
      case FieldType::kTable:
      case FieldType::kMap: return value.is_table();
      case FieldType::kComponent: return value.is_table() && value.find("type") != nullptr;
      case FieldType::kAny: return true;
    }
    return false;
  }

  static std::string type_hint(const FieldSpec& field, const Value& value) {
    if (value.is_string() && field.type != FieldType::kString) return "write it without quotes";
    if (field.type == FieldType::kString && !value.is_array() && !value.is_table())
      return "put it in quotes";
    return {};
  }

  void check_number(const FieldSpec& field, const Value& value, const std::string& path) {
    if (!value.is_number() || (field.type != FieldType::kInt && field.type != FieldType::kFloat))
      return;
    const double number = value.as_float();
    const bool low = field.minimum &&
                     (field.exclusive_minimum ? number <= *field.minimum : number < *field.minimum);
    const bool high = field.maximum && (field.exclusive_maximum ? number >= *field.maximum
                                                                : number > *field.maximum);
    if (low || high || std::isnan(number)) {
      add("'" + path + "' is out of range", dump_json(value), expectation(field), value);
    }
  }

  void check_choice(const FieldSpec& field, const Value& value, const std::string& path) {
    if (field.choices.empty() || !value.is_string()) return;
    const std::string& text = value.as_string();
    if (std::find(field.choices.begin(), field.choices.end(), text) != field.choices.end()) return;
    add("'" + path + "' is not one of the choices", text, expectation(field), value,
        did_you_mean(text, field.choices));
  }

  void check_items(const FieldSpec& field, const Value& value, const std::string& path) {
    if (field.type == FieldType::kList && !value.is_array()) {
      check(*field.element, value, path);
    } else if (field.type == FieldType::kList) {
      const Array& items = value.as_array();
      if (field.length && items.size() != *field.length) {
        add("'" + path + "' has the wrong number of items", std::to_string(items.size()) + " items",
            expectation(field), value);
      }
      for (std::size_t i = 0; field.element && i < items.size(); ++i) {
        check(*field.element, items[i], path + "[" + std::to_string(i) + "]");
      }
    } else if (field.type == FieldType::kMap && field.element) {
      for (const auto& [key, item] : value.as_table())
        check(*field.element, item, path + "." + key);
    } else if (field.type == FieldType::kTable && field.table) {
      check_config(*field.table, value, path, problems_);
    }
  }

  ProblemList& problems_;
};

std::vector<std::string> field_names(const SchemaSpec& schema) {
  std::vector<std::string> names;
  for (const FieldSpec& field : schema.fields) names.push_back(field.name);
  return names;
}

Value field_to_value(const FieldSpec& field) {
  Table table;
  if (!field.name.empty()) table.set("name", field.name);
  table.set("type", field_type_name(field.type));
  if (field.required) table.set("required", true);
  if (!field.default_value.is_null()) table.set("default", field.default_value);
  if (!field.doc.empty()) table.set("doc", field.doc);
  if (field.minimum)
    table.set(field.exclusive_minimum ? "exclusive_minimum" : "minimum", *field.minimum);
  if (field.maximum)
    table.set(field.exclusive_maximum ? "exclusive_maximum" : "maximum", *field.maximum);
  if (field.single) table.set("single", true);
  if (field.length) table.set("length", static_cast<std::int64_t>(*field.length));
  if (!field.choices.empty()) {
    Array choices;
    for (const std::string& choice : field.choices) choices.emplace_back(choice);
    table.set("choices", std::move(choices));
  }
  if (!field.since.empty()) table.set("since", field.since);
  if (!field.deprecated.empty()) table.set("deprecated", field.deprecated);
  if (!field.interface.empty()) table.set("interface", field.interface);
  if (field.element) table.set("element", field_to_value(*field.element));
  if (field.table) table.set("fields", schema_to_value(*field.table));
  return table;
}

std::string optional_text(const Value& table, std::string_view key) {
  const Value* value = table.find(key);
  return value == nullptr ? std::string() : value->as_string();
}

FieldType field_type_from_name(const std::string& name) {
  for (const FieldType type : kAllTypes) {
    if (field_type_name(type) == name) return type;
  }
  throw Error(Problem{ErrorCode::kBadPlugin,
                      "a config schema has a field of unknown type",
                      name,
                      "bool, int, float, string, list, table, map, component or any",
                      {},
                      {}});
}

void read_limit(const Value& value, std::string_view key, bool exclusive,
                std::optional<double>& limit, bool& flag) {
  if (const Value* number = value.find(key)) {
    limit = number->as_float();
    flag = exclusive;
  }
}

FieldSpec field_from_value(const Value& value) {
  FieldSpec field;
  field.name = optional_text(value, "name");
  field.type = field_type_from_name(optional_text(value, "type"));
  if (const Value* required = value.find("required")) field.required = required->as_bool();
  if (const Value* default_value = value.find("default")) field.default_value = *default_value;
  field.doc = optional_text(value, "doc");
  read_limit(value, "minimum", false, field.minimum, field.exclusive_minimum);
  read_limit(value, "exclusive_minimum", true, field.minimum, field.exclusive_minimum);
  read_limit(value, "maximum", false, field.maximum, field.exclusive_maximum);
  read_limit(value, "exclusive_maximum", true, field.maximum, field.exclusive_maximum);
  if (const Value* single = value.find("single")) field.single = single->as_bool();
  if (const Value* length = value.find("length"))
    field.length = static_cast<std::size_t>(length->as_int());
  if (const Value* choices = value.find("choices")) {
    for (const Value& choice : choices->as_array()) field.choices.push_back(choice.as_string());
  }
  field.since = optional_text(value, "since");
  field.deprecated = optional_text(value, "deprecated");
  field.interface = optional_text(value, "interface");
  if (const Value* element = value.find("element")) {
    field.element = std::make_shared<FieldSpec>(field_from_value(*element));
  }
  if (const Value* fields = value.find("fields")) {
    field.table = std::make_shared<SchemaSpec>(schema_from_value(*fields));
  }
  return field;
}

}  // namespace

std::string_view field_type_name(FieldType type) {
  switch (type) {
    case FieldType::kBool: return "bool";
    case FieldType::kInt: return "int";
    case FieldType::kFloat: return "float";
    case FieldType::kString: return "string";
    case FieldType::kList: return "list";
    case FieldType::kTable: return "table";
    case FieldType::kMap: return "map";
    case FieldType::kComponent: return "component";
    case FieldType::kAny: return "any";
  }
  return "any";
}

const FieldSpec* SchemaSpec::find(std::string_view name) const {
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [&](const FieldSpec& f) { return f.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

std::string expectation(const FieldSpec& field) {
  if (!field.choices.empty()) return "one of " + join_names(field.choices);
  switch (field.type) {
    case FieldType::kBool: return "true or false";
    case FieldType::kInt: return "an integer" + range_text(field);
    case FieldType::kFloat: return "a number" + range_text(field);
    case FieldType::kString: return "a string";
    case FieldType::kList: {
      const std::string count =
          field.length ? " of " + std::to_string(*field.length) + " items" : "";
      const std::string one =
          field.single && field.element ? expectation(*field.element) + " or " : "";
      return one + "a list" + count +
             (field.element ? ", each " + expectation(*field.element) : "");
    }
    case FieldType::kTable: return "a table";
    case FieldType::kMap:
      return "a table" + (field.element ? " of names to " + expectation(*field.element) : "");
    case FieldType::kComponent: return "a table with 'type' naming a " + field.interface;
    case FieldType::kAny: return "any value";
  }
  return "any value";
}

Value schema_to_value(const SchemaSpec& schema) {
  Array fields;
  for (const FieldSpec& field : schema.fields) fields.push_back(field_to_value(field));
  return fields;
}

SchemaSpec schema_from_value(const Value& value) {
  try {
    SchemaSpec schema;
    for (const Value& field : value.as_array()) schema.fields.push_back(field_from_value(field));
    return schema;
  } catch (const Error& error) {
    Problem problem = error.problems().front();
    problem.code = ErrorCode::kBadPlugin;
    throw Error(std::move(problem));
  }
}

void check_config(const SchemaSpec& schema, const Value& config, std::string_view path,
                  ProblemList& problems, const std::vector<std::string>& reserved) {
  FieldChecker checker(problems);
  for (const auto& [key, value] : config.as_table()) {
    if (const FieldSpec* field = schema.find(key)) {
      if (!value.is_null()) checker.check(*field, value, joined(path, key));
    } else if (std::find(reserved.begin(), reserved.end(), key) == reserved.end()) {
      const std::vector<std::string> names = field_names(schema);
      problems.add({ErrorCode::kBadInput, "unknown key '" + joined(path, key) + "'", key,
                    names.empty() ? "no keys here" : "one of " + join_names(names),
                    value.position().to_string(), did_you_mean(key, names)});
    }
  }
  for (const FieldSpec& field : schema.fields) {
    const Value* value = config.find(field.name);
    if (field.required && (value == nullptr || value->is_null())) {
      problems.add({ErrorCode::kBadInput,
                    "'" + joined(path, field.name) + "' is missing",
                    {},
                    expectation(field),
                    config.position().to_string(),
                    "add " + field.name + " = ... (" + field.doc + ")"});
    }
  }
}

Value with_defaults(const SchemaSpec& schema, const Value& config) {
  Table filled;
  if (const Value* type = config.find("type")) filled.set("type", *type);
  for (const FieldSpec& field : schema.fields) {
    const Value* given = config.find(field.name);
    const bool absent = given == nullptr || given->is_null();
    if (field.type == FieldType::kTable && field.table && !absent) {
      filled.set(field.name, with_defaults(*field.table, *given));
    } else if (!absent) {
      filled.set(field.name, *given);
    } else if (!field.default_value.is_null()) {
      filled.set(field.name, field.default_value);
    }
  }
  Value result(std::move(filled));
  result.at(config.position());
  return result;
}

}  // namespace espalier
