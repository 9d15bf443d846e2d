#include "config/json_schema.h"

#include <set>

#include "config/sections.h"

namespace espalier::config {
namespace {

Value schema_of_table(const SchemaSpec& schema, const Table& further = {});

Array strings(const std::vector<std::string>& texts) {
  Array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

Value type_of(const FieldSpec& field) {
  Table schema;
  switch (field.type) {
    case FieldType::kBool: schema.set("type", "boolean"); break;
    case FieldType::kInt: schema.set("type", "integer"); break;
    case FieldType::kFloat: schema.set("type", "number"); break;
    case FieldType::kString: schema.set("type", "string"); break;
    case FieldType::kTable:
      return field.table ? schema_of_table(*field.table) : Value(std::move(schema));
    case FieldType::kComponent: {
      // Which settings it has depends on the type; checked when the recipe is.
      Table type;
      type.set("type", "string");
      Table properties;
      properties.set("type", std::move(type));
      schema.set("type", "object");
      schema.set("properties", std::move(properties));
      schema.set("required", strings({"type"}));
      break;
    }
    case FieldType::kList:
      schema.set("type", "array");
      if (field.element) schema.set("items", type_of(*field.element));
      if (field.length) {
        schema.set("minItems", static_cast<std::int64_t>(*field.length));
        schema.set("maxItems", static_cast<std::int64_t>(*field.length));
      }
      break;
    case FieldType::kMap:
      schema.set("type", "object");
      if (field.element) schema.set("additionalProperties", type_of(*field.element));
      break;
    case FieldType::kAny: break;
  }
  if (field.minimum)
    schema.set(field.exclusive_minimum ? "exclusiveMinimum" : "minimum", *field.minimum);
  if (field.maximum)
    schema.set(field.exclusive_maximum ? "exclusiveMaximum" : "maximum", *field.maximum);
  if (!field.choices.empty()) schema.set("enum", strings(field.choices));
  return schema;
}

Value schema_of_field(const FieldSpec& field) {
  Value schema = type_of(field);
  if (field.single && field.element) {
    Table either;
    either.set("anyOf", Array{type_of(*field.element), std::move(schema)});
    schema = std::move(either);
  }
  Table& table = schema.as_table();
  table.set("description", field.doc);
  if (!field.default_value.is_null()) table.set("default", field.default_value);
  if (!field.deprecated.empty()) table.set("deprecated", true);
  return schema;
}

Value schema_of_table(const SchemaSpec& schema, const Table& further) {
  Table properties = further;
  Array required;
  for (const auto& [name, value] : further) required.emplace_back(name);
  for (const FieldSpec& field : schema.fields) {
    properties.set(field.name, schema_of_field(field));
    if (field.required) required.emplace_back(field.name);
  }
  Table result;
  result.set("type", "object");
  result.set("properties", std::move(properties));
  if (!required.empty()) result.set("required", std::move(required));
  result.set("additionalProperties", false);
  return result;
}

/// One alternative a component. The names are those that are unambiguous.
Value schema_of_components(const Section& section, const plugin::Catalog& catalog) {
  Array alternatives;
  for (const plugin::ComponentRef& ref : catalog.components(section.interface)) {
    Table type;
    type.set("enum", strings({ref.component->name, ref.qualified_name()}));
    type.set("description", ref.component->doc);
    Table further;
    further.set("type", std::move(type));
    Value alternative = schema_of_table(ref.component->schema, further);
    alternative.as_table().set("title", ref.component->name);
    const Value* default_for = ref.component->properties.find("default_for");
    const bool is_default = section.has_default && default_for != nullptr &&
                            *default_for == Value(std::string(section.name));
    if (is_default || !section.type_like.empty()) {
      // `type` may be left out.
      Value* required = alternative.as_table().find("required");
      std::erase(required->as_array(), Value("type"));
    }
    alternatives.push_back(std::move(alternative));
  }
  Table result;
  result.set("anyOf", std::move(alternatives));
  return result;
}

void add_keys(const std::string& prefix, const SchemaSpec& schema, std::set<std::string>& keys) {
  for (const FieldSpec& field : schema.fields) {
    keys.insert(prefix + field.name);
    if (field.type == FieldType::kTable && field.table)
      add_keys(prefix + field.name + ".", *field.table, keys);
  }
}

}  // namespace

Value recipe_json_schema(const plugin::Catalog& catalog) {
  Table properties;
  for (const Section& section : sections()) {
    if (section.name.empty()) {
      for (const FieldSpec& field : section.schema().fields)
        properties.set(field.name, schema_of_field(field));
    } else if (section.schema != nullptr) {
      properties.set(section.name, schema_of_table(section.schema()));
    } else {
      properties.set(section.name, schema_of_components(section, catalog));
    }
  }
  Table schema;
  schema.set("$schema", "https://json-schema.org/draft/2020-12/schema");
  schema.set("title", "Espalier recipe");
  schema.set("type", "object");
  schema.set("properties", std::move(properties));
  schema.set("additionalProperties", false);
  return schema;
}

std::vector<std::string> recipe_keys(const plugin::Catalog& catalog) {
  std::set<std::string> keys;
  for (const Section& section : sections()) {
    const std::string prefix = section.name.empty() ? "" : std::string(section.name) + ".";
    if (section.schema != nullptr) {
      add_keys(prefix, section.schema(), keys);
      continue;
    }
    keys.insert(prefix + "type");
    for (const plugin::ComponentRef& ref : catalog.components(section.interface))
      add_keys(prefix, ref.component->schema, keys);
  }
  return {keys.begin(), keys.end()};
}

}  // namespace espalier::config
