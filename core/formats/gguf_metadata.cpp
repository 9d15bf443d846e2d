#include "formats/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "espalier/base/error.h"

namespace espalier::formats {

ArchitectureMetadata::ArchitectureMetadata(const GgufFile& file, std::string architecture)
    : file_(file), prefix_(std::move(architecture) + ".") {}

const GgufValue* ArchitectureMetadata::find(const std::string& key) {
  used_.insert(prefix_ + key);
  return file_.find(prefix_ + key);
}

const GgufValue& ArchitectureMetadata::at(const std::string& key) {
  used_.insert(prefix_ + key);
  return file_.at(prefix_ + key);
}

std::int64_t ArchitectureMetadata::size(const std::string& key) { return checked(at(key), key); }

std::optional<std::int64_t> ArchitectureMetadata::optional_size(const std::string& key) {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return checked(*value, key);
}

double ArchitectureMetadata::number(const std::string& key, double missing) {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing;
  const double number = value->as_float();
  if (!std::isfinite(number) || number <= 0) {
    throw_bad_input("a number is out of range", std::to_string(number), "more than 0",
                    file_.path() + ", key '" + prefix_ + key + "'");
  }
  return shortest_decimal(number);
}

std::vector<std::string> ArchitectureMetadata::unused() const {
  std::vector<std::string> keys;
  for (const auto& entry : file_.metadata()) {
    if (entry.first.starts_with(prefix_) && !used_.contains(entry.first))
      keys.push_back(entry.first);
  }
  return keys;
}

std::int64_t ArchitectureMetadata::checked(const GgufValue& value, const std::string& key) const {
  const std::string where = file_.path() + ", key '" + prefix_ + key + "'";
  std::int64_t number = 0;
  if (value.is_array()) {
    const std::vector<std::int64_t> layers = value.as_ints();
    if (layers.empty() || std::any_of(layers.begin(), layers.end(),
                                      [&](std::int64_t n) { return n != layers.front(); })) {
      throw_unsupported_gguf("the layers of the model differ",
                             std::to_string(layers.size()) + " sizes", "one size for all layers",
                             where);
    }
    number = layers.front();
  } else {
    number = value.as_int();
  }
  if (number < 1 || number > (std::int64_t{1} << 31))
    throw_bad_input("a size is out of range", std::to_string(number), "1 to 2^31", where);
  return number;
}

double shortest_decimal(double value) {
  if (!std::isfinite(value) || std::abs(value) > 1e30) return value;
  const auto narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), narrow).ptr;
  std::from_chars(text.data(), end, value);
  return value;
}

void throw_unsupported_gguf(std::string what, std::string found, std::string expected,
                            const std::string& where) {
  throw Error(Problem{.code = ErrorCode::kUnsupported,
                      .what = std::move(what),
                      .found = std::move(found),
                      .expected = std::move(expected),
                      .where = where,
                      .hint = "fetch the model in Hugging Face format instead"});
}

}  // namespace espalier::formats
