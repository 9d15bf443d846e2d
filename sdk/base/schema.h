#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/error.h"
#include "espalier/base/value.h"

namespace espalier {

enum class FieldType { kBool, kInt, kFloat, kString, kList, kTable, kMap, kComponent, kAny };

/// "bool", "int", "float", "string", "list", "table", "map", "component", "any".
ESPALIER_API std::string_view field_type_name(FieldType type);

struct SchemaSpec;

/// One configuration field as data. `element` describes the items of a list or the values of a map;
/// `table` the fields of a nested table; `interface` the interface of a nested component reference.
struct FieldSpec {
  std::string name;
  FieldType type = FieldType::kAny;
  bool required = false;
  Value default_value;
  std::string doc;
  std::optional<double> minimum;
  std::optional<double> maximum;
  bool exclusive_minimum = false;
  bool exclusive_maximum = false;
  std::optional<std::size_t> length;  ///< exact number of items of a list
  bool single = false;                ///< a list: one item without brackets stands for a list of it
  std::vector<std::string> choices;
  std::string since;
  std::string deprecated;  ///< what to use instead; empty when the field is current
  std::string interface;
  std::shared_ptr<const FieldSpec> element;
  std::shared_ptr<const SchemaSpec> table;
};

/// The fields of one component, as declared in C++ and as stored in the plugin's manifest.
struct ESPALIER_API SchemaSpec {
  std::vector<FieldSpec> fields;

  const FieldSpec* find(std::string_view name) const;
};

/// "a number > 0", "one of linear, cosine", "a list of 2 numbers", ... for messages and help.
ESPALIER_API std::string expectation(const FieldSpec& field);

ESPALIER_API Value schema_to_value(const SchemaSpec& schema);
/// Throws Error(kBadPlugin) when `value` is not a schema: manifests come from strangers.
ESPALIER_API SchemaSpec schema_from_value(const Value& value);

/// Checks `config` (a table) against `schema` and adds one problem for each unknown key, missing
/// field, wrong type and value out of range, with positions and suggestions. `path` is the dotted
/// name of the table, e.g. "optimizer". Keys in `reserved` ("type") are passed over.
ESPALIER_API void check_config(const SchemaSpec& schema, const Value& config, std::string_view path,
                               ProblemList& problems,
                               const std::vector<std::string>& reserved = {});

/// `config` with the default of each absent field filled in, fields in schema order.
ESPALIER_API Value with_defaults(const SchemaSpec& schema, const Value& config);

}  // namespace espalier
