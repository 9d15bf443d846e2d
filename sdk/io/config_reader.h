#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"

namespace espalier {

/// Typed access to a Hugging Face config.json. A null counts as absent, unless said otherwise.
/// Every mistake is an Error(kBadInput) naming the key. The config outlives the reader; any number
/// of threads.
class ESPALIER_API ConfigReader {
 public:
  explicit ConfigReader(const Value& config) : config_(config) {}

  /// nullptr when absent or null.
  const Value* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }
  /// Whether the key is there and null: in transformers that is no default, but "none".
  bool is_null(const std::string& key) const;

  /// A whole number greater than zero.
  std::int64_t size(const std::string& key) const;
  std::int64_t size(const std::string& key, std::int64_t fallback) const;
  double number(const std::string& key, double fallback) const;
  double positive_number(const std::string& key, double fallback) const;
  /// A number, none where the key is null, `fallback` where it is missing.
  std::optional<double> optional_number(const std::string& key,
                                        std::optional<double> fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  /// `pad_token_id` as a row of a table with `rows` rows; none without one. A negative id counts
  /// from the end.
  std::optional<std::int64_t> padding_id(std::int64_t rows) const;

  /// Throws unless `condition`: "config.json: <key> ..., found ..., expected ...".
  void require(bool condition, const std::string& key, const std::string& expected) const;

 private:
  const Value& config_;
};

}  // namespace espalier
