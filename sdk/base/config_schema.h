#pragma once

#include <concepts>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "espalier/base/schema.h"

namespace espalier {

template <class C>
class ConfigSchema;

/// A config struct that declares itself: `static ConfigSchema<C> schema()`.
template <class C>
concept DeclaredConfig = requires {
  { C::schema() } -> std::same_as<ConfigSchema<C>>;
};

/// A reference to another component inside a config: `{type = "cosine", ...}`. Resolved by the
/// host.
struct ComponentConfig {
  std::string type;
  Value config;
};

namespace schema_detail {

template <class T>
struct FieldTraits {
  static_assert(sizeof(T) == 0,
                "a setting is a bool, std::int64_t, double, std::string, Value, ComponentConfig, "
                "std::optional, std::vector or std::map of these, or a struct with schema()");
};

template <>
struct FieldTraits<bool> {
  static FieldSpec spec() { return {.type = FieldType::kBool}; }
  static bool read(const Value& value) { return value.as_bool(); }
  static Value write(bool value) { return value; }
};

template <>
struct FieldTraits<std::int64_t> {
  static FieldSpec spec() { return {.type = FieldType::kInt}; }
  static std::int64_t read(const Value& value) { return value.as_int(); }
  static Value write(std::int64_t value) { return value; }
};

template <>
struct FieldTraits<double> {
  static FieldSpec spec() { return {.type = FieldType::kFloat}; }
  static double read(const Value& value) { return value.as_float(); }
  static Value write(double value) { return value; }
};

template <>
struct FieldTraits<std::string> {
  static FieldSpec spec() { return {.type = FieldType::kString}; }
  static std::string read(const Value& value) { return value.as_string(); }
  static Value write(const std::string& value) { return value; }
};

template <>
struct FieldTraits<Value> {
  static FieldSpec spec() { return {.type = FieldType::kAny}; }
  static Value read(const Value& value) { return value; }
  static Value write(const Value& value) { return value; }
};

template <>
struct FieldTraits<ComponentConfig> {
  static FieldSpec spec() { return {.type = FieldType::kComponent}; }
  static ComponentConfig read(const Value& value) {
    const Value* type = value.find("type");
    return {type == nullptr ? std::string() : type->as_string(), value};
  }
  static Value write(const ComponentConfig& value) {
    return value.type.empty() ? Value() : value.config;
  }
};

template <class T>
struct FieldTraits<std::optional<T>> {
  static FieldSpec spec() { return FieldTraits<T>::spec(); }
  static std::optional<T> read(const Value& value) { return FieldTraits<T>::read(value); }
  static Value write(const std::optional<T>& value) {
    return value ? FieldTraits<T>::write(*value) : Value();
  }
};

template <class T>
struct FieldTraits<std::vector<T>> {
  static FieldSpec spec() {
    return {.type = FieldType::kList,
            .element = std::make_shared<FieldSpec>(FieldTraits<T>::spec())};
  }
  static std::vector<T> read(const Value& value) {
    // A single item gets here only where `or_single` let it through.
    if (!value.is_array()) return {FieldTraits<T>::read(value)};
    std::vector<T> items;
    for (const Value& item : value.as_array()) items.push_back(FieldTraits<T>::read(item));
    return items;
  }
  static Value write(const std::vector<T>& value) {
    Array items;
    for (const T& item : value) items.push_back(FieldTraits<T>::write(item));
    return items;
  }
};

/// Keys are patterns or names chosen by the user; kept in alphabetical order.
template <class T>
struct FieldTraits<std::map<std::string, T>> {
  static FieldSpec spec() {
    return {.type = FieldType::kMap,
            .element = std::make_shared<FieldSpec>(FieldTraits<T>::spec())};
  }
  static std::map<std::string, T> read(const Value& value) {
    std::map<std::string, T> items;
    for (const auto& [key, item] : value.as_table()) items.emplace(key, FieldTraits<T>::read(item));
    return items;
  }
  static Value write(const std::map<std::string, T>& value) {
    Table items;
    for (const auto& [key, item] : value) items.set(key, FieldTraits<T>::write(item));
    return items;
  }
};

template <DeclaredConfig T>
struct FieldTraits<T> {
  static FieldSpec spec() {
    return {.type = FieldType::kTable, .table = std::make_shared<SchemaSpec>(T::schema().spec())};
  }
  static T read(const Value& value) { return T::schema().parse(value); }
  static Value write(const T& value) { return T::schema().write(value); }
};

}  // namespace schema_detail

/// The one declaration of a component's configuration: pointer to member plus text. Parsing,
/// checking, help, docs and the manifest all come from it.
///
///     struct AdamWConfig {
///       double lr = 1e-3;
///       static ConfigSchema<AdamWConfig> schema() {
///         return ConfigSchema<AdamWConfig>().field("lr", &AdamWConfig::lr, "learning
///         rate").at_least(0.0);
///       }
///     };
///
/// The modifiers (at_least, one_of, ...) refer to the field declared last; ranges, choices and
/// interfaces of a list or map refer to each of its items. The default of a field is the value that
/// a default-constructed C holds.
template <class C>
class ConfigSchema {
 public:
  /// `member` may belong to a base of C, so that configs can share fields.
  template <class T, class Owner>
  requires std::derived_from<C, Owner> ConfigSchema& field(std::string name, T Owner::*member,
                                                           std::string doc) {
    FieldSpec spec = schema_detail::FieldTraits<T>::spec();
    spec.name = name;
    spec.doc = std::move(doc);
    spec.default_value = schema_detail::FieldTraits<T>::write(C().*member);
    spec_.fields.push_back(std::move(spec));
    readers_.push_back([name, member](C& config, const Value& table) {
      const Value* value = table.find(name);
      if (value != nullptr && !value->is_null())
        config.*member = schema_detail::FieldTraits<T>::read(*value);
    });
    writers_.push_back([name = std::move(name), member](const C& config, Table& table) {
      table.set(name, schema_detail::FieldTraits<T>::write(config.*member));
    });
    return *this;
  }

  ConfigSchema& required() { return last().required = true, last().default_value = Value(), *this; }
  ConfigSchema& at_least(double minimum) { return item().minimum = minimum, *this; }
  ConfigSchema& at_most(double maximum) { return item().maximum = maximum, *this; }
  ConfigSchema& more_than(double minimum) {
    return item().exclusive_minimum = true, at_least(minimum);
  }
  ConfigSchema& less_than(double maximum) {
    return item().exclusive_maximum = true, at_most(maximum);
  }
  ConfigSchema& one_of(const std::vector<std::string>& choices) {
    return item().choices = choices, *this;
  }
  ConfigSchema& length(std::size_t items) { return last().length = items, *this; }
  /// For lists: one item without brackets stands for a list of it.
  ConfigSchema& or_single() { return last().single = true, *this; }
  ConfigSchema& since(const std::string& version) { return last().since = version, *this; }
  ConfigSchema& deprecated(const std::string& instead) {
    return last().deprecated = instead, *this;
  }
  /// For fields of type ComponentConfig: the interface of the component, e.g. "Loss".
  ConfigSchema& component(const std::string& interface) {
    return item().interface = interface, *this;
  }

  const SchemaSpec& spec() const { return spec_; }

  /// Checks, then reads. Throws Error with all problems. `path` names the table in messages.
  C parse(const Value& table, std::string_view path = {}) const {
    ProblemList problems;
    check_config(spec_, table, path, problems, {"type"});
    problems.throw_if_any();
    C config;
    for (const auto& read : readers_) read(config, table);
    return config;
  }

  Value write(const C& config) const {
    Table table;
    for (const auto& write_field : writers_) write_field(config, table);
    return table;
  }

 private:
  FieldSpec& last() { return spec_.fields.back(); }

  /// The field declared last or, where it is a list or map, the description of its innermost items.
  FieldSpec& item() {
    FieldSpec* field = &last();
    while (field->element) {
      // Copies share their items; this schema changes its own.
      auto own = std::make_shared<FieldSpec>(*field->element);
      FieldSpec* next = own.get();
      field->element = std::move(own);
      field = next;
    }
    return *field;
  }

  SchemaSpec spec_;
  std::vector<std::function<void(C&, const Value&)>> readers_;
  std::vector<std::function<void(const C&, Table&)>> writers_;
};

/// For components without configuration.
struct EmptyConfig {
  static ConfigSchema<EmptyConfig> schema() { return {}; }
};

}  // namespace espalier
