#include "espalier/io/config_reader.h"

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr std::int64_t kLargestSize = std::int64_t{1} << 40;

}  // namespace

const Value* ConfigReader::find(const std::string& key) const {
  const Value* value = config_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool ConfigReader::is_null(const std::string& key) const {
  const Value* value = config_.find(key);
  return value != nullptr && value->is_null();
}

void ConfigReader::require(bool condition, const std::string& key,
                           const std::string& expected) const {
  if (condition) return;
  const Value* value = find(key);
  const std::string file =
      config_.position().file.empty() ? "config.json" : config_.position().file;
  throw_bad_input(value == nullptr ? "the model config has no '" + key + "'"
                                   : "the model config has a wrong '" + key + "'",
                  value == nullptr ? "" : dump_json(*value), expected, file + ": " + key);
}

std::int64_t ConfigReader::size(const std::string& key) const {
  const Value* value = find(key);
  require(
      value != nullptr && value->is_int() && value->as_int() > 0 && value->as_int() < kLargestSize,
      key, "a whole number > 0");
  return value->as_int();
}

std::int64_t ConfigReader::size(const std::string& key, std::int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

double ConfigReader::number(const std::string& key, double fallback) const {
  const Value* value = find(key);
  if (value == nullptr) return fallback;
  require(value->is_number(), key, "a number");
  return value->as_float();
}

double ConfigReader::positive_number(const std::string& key, double fallback) const {
  const double value = number(key, fallback);
  require(value > 0, key, "a number > 0");
  return value;
}

std::optional<double> ConfigReader::optional_number(const std::string& key,
                                                    std::optional<double> fallback) const {
  if (has(key)) return number(key, 0.0);
  return is_null(key) ? std::nullopt : fallback;
}

bool ConfigReader::flag(const std::string& key, bool fallback) const {
  const Value* value = find(key);
  if (value == nullptr) return fallback;
  require(value->is_bool(), key, "true or false");
  return value->as_bool();
}

std::string ConfigReader::text(const std::string& key, const std::string& fallback) const {
  const Value* value = find(key);
  if (value == nullptr) return fallback;
  require(value->is_string(), key, "a string");
  return value->as_string();
}

std::optional<std::int64_t> ConfigReader::padding_id(std::int64_t rows) const {
  const Value* value = find("pad_token_id");
  if (value == nullptr) return std::nullopt;
  require(value->is_int() && value->as_int() >= -rows && value->as_int() < rows, "pad_token_id",
          "an id below " + std::to_string(rows));
  return value->as_int() < 0 ? value->as_int() + rows : value->as_int();
}

}  // namespace espalier
