#pragma once

#include <string>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/schema.h"
#include "espalier/base/value.h"

namespace espalier::config {

/// Translates the keys of one table by rules. A rule is for one key:
/// - "name": it is called so here; "a.b" goes into a table, "/name" to the top of the recipe;
/// - {"as": "name", "values": {"<json>": value}}: likewise, with the value that it stands for here;
///   null there: it is the default and is left out;
/// - {"only": value or [values]}: accepted with this value, which is what is done here anyway;
/// - {"note": "why"}: left out with a note, because it says how and not what;
/// - {"keys": {...}, "targets": [...]}: a table with rules of its own, which may name a target;
///   with "as": "." its keys are those of the section itself.
/// "" holds values of ours for keys that are not given. A key without a rule is one of the schema,
/// or a problem.
class KeyRules {
 public:
  /// `schema` may be null: then keys without a rule are taken as they are.
  KeyRules(const Table& rules, const SchemaSpec* schema, ProblemList& problems,
           std::vector<std::string>& notes)
      : rules_(rules), schema_(schema), problems_(problems), notes_(notes) {}

  /// The table in our form. `top` takes what belongs outside of sections. `done` are keys that the
  /// caller took care of.
  Table translate(const Value& table, const std::string& section, Table& top,
                  const std::vector<std::string>& done) const;

 private:
  void translate_key(const std::string& key, const Value& value, const std::string& section,
                     Table& out, Table& top) const;
  void apply_table_rule(const Value& rule, const std::string& key, const Value& value,
                        const std::string& section, Table& out, Table& top) const;
  void put(const std::string& name, Value value, Table& out, Table& top) const;
  void add_defaults(Table& out) const;
  void unknown(const std::string& key, const Value& value, const std::string& section) const;

  const Table& rules_;
  const SchemaSpec* schema_;
  ProblemList& problems_;
  std::vector<std::string>& notes_;
};

/// "a table" of the value in `path` ("a.b") of `out`, which is made where it is missing.
Value& at_path(Table& out, std::string_view path);

}  // namespace espalier::config
