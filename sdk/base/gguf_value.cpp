#include <bit>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/gguf.h"

namespace espalier {
namespace {

template <class T>
T load(std::span<const std::byte> raw) {
  static_assert(std::endian::native == std::endian::little, "values are read in place");
  T value;
  std::memcpy(&value, raw.data(), sizeof value);
  return value;
}

std::string_view kind_of(GgufType type) {
  switch (type) {
    case GgufType::kBool: return "a boolean";
    case GgufType::kString: return "a string";
    case GgufType::kArray: return "an array";
    case GgufType::kF32:
    case GgufType::kF64: return "a floating point number";
    default: return "an integer";
  }
}

}  // namespace

void GgufValue::throw_kind(std::string_view expected) const {
  std::string found(kind_of(type_));
  if (is_array())
    found += " of " + std::to_string(count_) + " items, each " + std::string(kind_of(item_type_));
  throw_bad_input("a metadata value has the wrong type", found, std::string(expected), *where_);
}

bool GgufValue::is_integer() const {
  switch (type_) {
    case GgufType::kBool:
    case GgufType::kString:
    case GgufType::kArray:
    case GgufType::kF32:
    case GgufType::kF64: return false;
    default: return true;
  }
}

bool GgufValue::as_bool() const {
  if (type_ != GgufType::kBool) throw_kind("a boolean");
  return load<std::uint8_t>(raw_) != 0;
}

std::int64_t GgufValue::as_int() const {
  switch (type_) {
    case GgufType::kU8: return load<std::uint8_t>(raw_);
    case GgufType::kI8: return load<std::int8_t>(raw_);
    case GgufType::kU16: return load<std::uint16_t>(raw_);
    case GgufType::kI16: return load<std::int16_t>(raw_);
    case GgufType::kU32: return load<std::uint32_t>(raw_);
    case GgufType::kI32: return load<std::int32_t>(raw_);
    case GgufType::kI64: return load<std::int64_t>(raw_);
    case GgufType::kU64: break;
    default: throw_kind("an integer");
  }
  const auto value = load<std::uint64_t>(raw_);
  if (value > static_cast<std::uint64_t>(INT64_MAX)) {
    throw_bad_input("a metadata value is too large", std::to_string(value),
                    "at most " + std::to_string(INT64_MAX), *where_);
  }
  return static_cast<std::int64_t>(value);
}

double GgufValue::as_float() const {
  if (type_ == GgufType::kF32) return load<float>(raw_);
  if (type_ == GgufType::kF64) return load<double>(raw_);
  if (!is_integer()) throw_kind("a number");
  return static_cast<double>(as_int());
}

std::string_view GgufValue::as_string() const {
  if (!is_string()) throw_kind("a string");
  return text_;
}

const std::vector<std::string_view>& GgufValue::as_strings() const {
  if (!is_array() || item_type_ != GgufType::kString) throw_kind("an array of strings");
  return strings_;
}

const std::vector<GgufValue>& GgufValue::as_arrays() const {
  if (!is_array() || item_type_ != GgufType::kArray) throw_kind("an array of arrays");
  return arrays_;
}

GgufValue GgufValue::item(std::uint64_t index) const {
  GgufValue value;
  value.type_ = item_type_;
  value.where_ = where_;
  const std::uint64_t bytes = raw_.size() / count_;
  value.raw_ = raw_.subspan(index * bytes, bytes);
  return value;
}

std::vector<std::int64_t> GgufValue::as_ints() const {
  GgufValue sample;
  sample.type_ = item_type_;
  if (!is_array() || !sample.is_integer()) throw_kind("an array of integers");
  std::vector<std::int64_t> values;
  values.reserve(count_);
  for (std::uint64_t i = 0; i < count_; ++i) values.push_back(item(i).as_int());
  return values;
}

std::vector<double> GgufValue::as_floats() const {
  GgufValue sample;
  sample.type_ = item_type_;
  if (!is_array() || !sample.is_number()) throw_kind("an array of numbers");
  std::vector<double> values;
  values.reserve(count_);
  for (std::uint64_t i = 0; i < count_; ++i) values.push_back(item(i).as_float());
  return values;
}

}  // namespace espalier
