#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// Where a value was written. `line` and `column` count from 1; 0 means unknown. `file` may also
/// name another origin, such as "--optimizer.lr" for a command line override.
struct ESPALIER_API SourcePosition {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;

  /// "file:line:column", or only the parts that are known.
  std::string to_string() const;
};

class ESPALIER_API Value;

/// String keys to values, in the order in which they were inserted. Not thread safe while written.
class ESPALIER_API Table {
 public:
  using Entry = std::pair<std::string, Value>;

  Table();
  Table(const Table& other);
  Table(Table&& other) noexcept;
  Table& operator=(const Table& other);
  Table& operator=(Table&& other) noexcept;
  ~Table();

  /// nullptr when there is no such key.
  const Value* find(std::string_view key) const;
  Value* find(std::string_view key);
  /// Inserts null when there is no such key.
  Value& operator[](std::string_view key);
  /// Replaces the value when the key is there.
  void set(std::string_view key, Value value);
  bool erase(std::string_view key);
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  std::size_t size() const;
  bool empty() const { return size() == 0; }

  std::vector<Entry>::const_iterator begin() const;
  std::vector<Entry>::const_iterator end() const;
  std::vector<Entry>::iterator begin();
  std::vector<Entry>::iterator end();

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> index_;
};

using Array = std::vector<Value>;

/// A tree of configuration or JSON data: null, bool, 64-bit integer, double, string, array or
/// table, each with the place where it was written. Equality ignores positions.
class ESPALIER_API Value {
 public:
  enum class Type { kNull, kBool, kInt, kFloat, kString, kArray, kTable };

  Value() = default;
  Value(bool value) : data_(value) {}  // NOLINT(google-explicit-constructor)
  Value(int value)
      : data_(static_cast<std::int64_t>(value)) {}         // NOLINT(google-explicit-constructor)
  Value(std::int64_t value) : data_(value) {}              // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}                    // NOLINT(google-explicit-constructor)
  Value(const char* value) : data_(std::string(value)) {}  // NOLINT(google-explicit-constructor)
  Value(std::string_view value)
      : data_(std::string(value)) {}                     // NOLINT(google-explicit-constructor)
  Value(std::string value) : data_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Value(Array value) : data_(std::move(value)) {}        // NOLINT(google-explicit-constructor)
  Value(Table value) : data_(std::move(value)) {}        // NOLINT(google-explicit-constructor)

  Type type() const { return static_cast<Type>(data_.index()); }
  bool is_null() const { return type() == Type::kNull; }
  bool is_bool() const { return type() == Type::kBool; }
  bool is_int() const { return type() == Type::kInt; }
  bool is_float() const { return type() == Type::kFloat; }
  bool is_number() const { return is_int() || is_float(); }
  bool is_string() const { return type() == Type::kString; }
  bool is_array() const { return type() == Type::kArray; }
  bool is_table() const { return type() == Type::kTable; }

  /// The accessors throw Error(kBadInput) naming found and expected type and the position when the
  /// type differs; as_float accepts an integer.
  bool as_bool() const;
  std::int64_t as_int() const;
  double as_float() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Table& as_table() const;
  Array& as_array();
  Table& as_table();

  /// Member of a table, or nullptr when this is no table or has no such key.
  const Value* find(std::string_view key) const;
  /// Descends tables by a dotted path ("optimizer.lr"); nullptr where the path ends early.
  const Value* find_path(std::string_view dotted_path) const;

  const SourcePosition& position() const { return position_; }
  Value& at(SourcePosition position) {
    position_ = std::move(position);
    return *this;
  }

  bool operator==(const Value& other) const;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Table> data_;
  SourcePosition position_;
};

/// "a boolean", "an integer", ... for messages.
ESPALIER_API std::string_view type_phrase(Value::Type type);

}  // namespace espalier
