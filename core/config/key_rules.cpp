#include "config/key_rules.h"

#include <algorithm>

#include "espalier/base/dtype.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"

namespace espalier::config {
namespace {

/// "torch.bfloat16" and "bf16" for a field that takes "bfloat16".
Value as_dtype(const FieldSpec& field, const Value& value) {
  const auto takes = [&](const char* name) {
    return std::find(field.choices.begin(), field.choices.end(), name) != field.choices.end();
  };
  if (!value.is_string() || !takes("bfloat16")) return value;
  std::string text = value.as_string();
  if (text == "bf16") text = "bfloat16";
  if (text == "fp16") text = "float16";
  if (text == "fp32") text = "float32";
  const auto dtype = dtype_from_config_name(text);
  Value named = dtype ? Value(dtype_config_name(*dtype)) : Value(text);
  named.at(value.position());
  return named;
}

bool equals_any(const Value& allowed, const Value& value) {
  if (!allowed.is_array()) return allowed == value;
  const Array& items = allowed.as_array();
  return allowed == value || std::find(items.begin(), items.end(), value) != items.end();
}

}  // namespace

Value& at_path(Table& out, std::string_view path) {
  Table* table = &out;
  while (true) {
    const std::size_t dot = path.find('.');
    Value& member = (*table)[path.substr(0, dot)];
    if (dot == std::string_view::npos) return member;
    if (!member.is_table()) member = Value(Table());
    table = &member.as_table();
    path.remove_prefix(dot + 1);
  }
}

Table KeyRules::translate(const Value& table, const std::string& section, Table& top,
                          const std::vector<std::string>& done) const {
  Table out;
  for (const auto& [key, value] : table.as_table()) {
    // Without a value a key has its default, here as there.
    if (value.is_null() || std::find(done.begin(), done.end(), key) != done.end()) continue;
    translate_key(key, value, section, out, top);
  }
  add_defaults(out);
  return out;
}

void KeyRules::translate_key(const std::string& key, const Value& value, const std::string& section,
                             Table& out, Table& top) const {
  const Value* rule = key.empty() ? nullptr : rules_.find(key);
  if (rule != nullptr && rule->is_string()) {
    put(rule->as_string(), value, out, top);
  } else if (rule != nullptr && rule->is_table()) {
    apply_table_rule(*rule, key, value, section, out, top);
  } else if (schema_ == nullptr || schema_->find(key) != nullptr) {
    put(key, value, out, top);
  } else {
    unknown(key, value, section);
  }
}

void KeyRules::apply_table_rule(const Value& rule, const std::string& key, const Value& value,
                                const std::string& section, Table& out, Table& top) const {
  const std::string path = section + "." + key;
  if (const Value* note = rule.find("note")) {
    notes_.push_back(path + " is left out: " + note->as_string());
  } else if (const Value* only = rule.find("only")) {
    if (equals_any(*only, value)) return;
    problems_.add({.code = ErrorCode::kUnsupported,
                   .what = "'" + path + "' has no counterpart with this value",
                   .found = dump_json(value),
                   .expected = dump_json(*only) + ", which is what is done here, or no such key",
                   .where = value.position().to_string()});
  } else if (const Value* keys = rule.find("keys")) {
    const Value* target = value.find("_target_");
    const Value* targets = rule.find("targets");
    if (!value.is_table() ||
        (target != nullptr && (targets == nullptr || !equals_any(*targets, *target)))) {
      problems_.add({.code = ErrorCode::kUnsupported,
                     .what = "'" + path + "' has no counterpart",
                     .found = dump_json(target != nullptr ? *target : value),
                     .expected = targets != nullptr ? dump_json(*targets) : "a table",
                     .where = value.position().to_string()});
      return;
    }
    const Value* as = rule.find("as");
    const FieldSpec* field =
        schema_ == nullptr ? nullptr : schema_->find(as != nullptr ? as->as_string() : key);
    const SchemaSpec* fields = field == nullptr ? nullptr : field->table.get();
    Table inner = KeyRules(keys->as_table(), fields, problems_, notes_)
                      .translate(value, path, top, {"_target_"});
    if (as != nullptr && as->as_string() == ".") {
      for (auto& [name, member] : inner) put(name, std::move(member), out, top);
      return;
    }
    put(as != nullptr ? as->as_string() : key, Value(std::move(inner)).at(value.position()), out,
        top);
  } else {
    const Value* as = rule.find("as");
    const Value* values = rule.find("values");
    Value translated = value;
    if (values != nullptr) {
      const Value* meant = values->find(dump_json(value));
      if (meant == nullptr) {
        std::string known;
        for (const auto& [text, other] : values->as_table())
          known.append(known.empty() ? "" : ", ").append(text);
        problems_.add({.code = ErrorCode::kUnsupported,
                       .what = "'" + path + "' has no counterpart with this value",
                       .found = dump_json(value),
                       .expected = "one of " + known,
                       .where = value.position().to_string()});
        return;
      }
      if (meant->is_null()) return;
      translated = *meant;
      translated.at(value.position());
    }
    put(as != nullptr ? as->as_string() : key, std::move(translated), out, top);
  }
}

void KeyRules::put(const std::string& name, Value value, Table& out, Table& top) const {
  if (name.starts_with('/')) {
    at_path(top, std::string_view(name).substr(1)) = std::move(value);
    return;
  }
  const FieldSpec* field = schema_ == nullptr ? nullptr : schema_->find(name);
  if (field != nullptr) value = as_dtype(*field, value);
  at_path(out, name) = std::move(value);
}

void KeyRules::add_defaults(Table& out) const {
  const Value* defaults = rules_.find("");
  if (defaults == nullptr) return;
  for (const auto& [key, value] : defaults->as_table())
    if (!out.contains(key)) out.set(key, value);
}

void KeyRules::unknown(const std::string& key, const Value& value,
                       const std::string& section) const {
  std::vector<std::string> names;
  for (const auto& [name, rule] : rules_)
    if (!name.empty()) names.push_back(name);
  for (const FieldSpec& field : schema_->fields) names.push_back(field.name);
  problems_.add({.code = ErrorCode::kUnsupported,
                 .what = "'" + section + "." + key + "' has no counterpart",
                 .found = dump_json(value),
                 .expected = names.empty() ? "no such key" : "one of " + join_names(names),
                 .where = value.position().to_string(),
                 .hint = did_you_mean(key, names)});
}

}  // namespace espalier::config
