#include "espalier/base/value.h"

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {

std::string SourcePosition::to_string() const {
  std::string text = file;
  if (line == 0) return text;
  text += ":" + std::to_string(line);
  if (column != 0) text += ":" + std::to_string(column);
  return text;
}

Table::Table() = default;
Table::Table(const Table& other) = default;
Table::Table(Table&& other) noexcept = default;
Table& Table::operator=(const Table& other) = default;
Table& Table::operator=(Table&& other) noexcept = default;
Table::~Table() = default;

const Value* Table::find(std::string_view key) const {
  const auto found = index_.find(std::string(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

Value* Table::find(std::string_view key) {
  return const_cast<Value*>(std::as_const(*this).find(key));
}

Value& Table::operator[](std::string_view key) {
  if (Value* present = find(key)) return *present;
  index_.emplace(key, entries_.size());
  return entries_.emplace_back(std::string(key), Value()).second;
}

void Table::set(std::string_view key, Value value) { (*this)[key] = std::move(value); }

bool Table::erase(std::string_view key) {
  const auto found = index_.find(std::string(key));
  if (found == index_.end()) return false;
  const std::size_t removed = found->second;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(removed));
  index_.erase(found);
  for (auto& [name, place] : index_) {
    if (place > removed) --place;
  }
  return true;
}

std::size_t Table::size() const { return entries_.size(); }
std::vector<Table::Entry>::const_iterator Table::begin() const { return entries_.begin(); }
std::vector<Table::Entry>::const_iterator Table::end() const { return entries_.end(); }
std::vector<Table::Entry>::iterator Table::begin() { return entries_.begin(); }
std::vector<Table::Entry>::iterator Table::end() { return entries_.end(); }

std::string_view type_phrase(Value::Type type) {
  switch (type) {
    case Value::Type::kNull: return "nothing";
    case Value::Type::kBool: return "a boolean";
    case Value::Type::kInt: return "an integer";
    case Value::Type::kFloat: return "a number";
    case Value::Type::kString: return "a string";
    case Value::Type::kArray: return "a list";
    case Value::Type::kTable: return "a table";
  }
  return "nothing";
}

namespace {

template <class T, class V>
auto& get_as(V& data, const Value& value, Value::Type wanted) {
  if (auto* held = std::get_if<T>(&data)) return *held;
  throw_bad_input("a value has the wrong type",
                  std::string(type_phrase(value.type())) + ": " + dump_json(value),
                  std::string(type_phrase(wanted)), value.position().to_string());
}

}  // namespace

bool Value::as_bool() const { return get_as<bool>(data_, *this, Type::kBool); }
std::int64_t Value::as_int() const { return get_as<std::int64_t>(data_, *this, Type::kInt); }
double Value::as_float() const {
  if (is_int()) return static_cast<double>(std::get<std::int64_t>(data_));
  return get_as<double>(data_, *this, Type::kFloat);
}
const std::string& Value::as_string() const {
  return get_as<std::string>(data_, *this, Type::kString);
}
const Array& Value::as_array() const { return get_as<Array>(data_, *this, Type::kArray); }
const Table& Value::as_table() const { return get_as<Table>(data_, *this, Type::kTable); }
Array& Value::as_array() { return get_as<Array>(data_, *this, Type::kArray); }
Table& Value::as_table() { return get_as<Table>(data_, *this, Type::kTable); }

const Value* Value::find(std::string_view key) const {
  const Table* table = std::get_if<Table>(&data_);
  return table == nullptr ? nullptr : table->find(key);
}

const Value* Value::find_path(std::string_view dotted_path) const {
  const Value* current = this;
  while (current != nullptr && !dotted_path.empty()) {
    const std::size_t dot = dotted_path.find('.');
    current = current->find(dotted_path.substr(0, dot));
    dotted_path = dot == std::string_view::npos ? std::string_view() : dotted_path.substr(dot + 1);
  }
  return current;
}

bool Value::operator==(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  if (const Table* table = std::get_if<Table>(&data_)) {
    const Table& right = std::get<Table>(other.data_);
    if (table->size() != right.size()) return false;
    for (const auto& [key, value] : *table) {
      const Value* twin = right.find(key);
      if (twin == nullptr || !(*twin == value)) return false;
    }
    return true;
  }
  if (const Array* array = std::get_if<Array>(&data_))
    return *array == std::get<Array>(other.data_);
  if (is_string()) return as_string() == other.as_string();
  if (is_float()) return as_float() == other.as_float();
  if (is_int()) return as_int() == other.as_int();
  return is_null() || as_bool() == other.as_bool();
}

}  // namespace espalier
