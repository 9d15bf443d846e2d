#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"

namespace espalier {

/// Typed access to a Hugging Face config.json. A null counts as absent, as in transformers. Every
/// mistake is an Error(kBadInput) naming the key.
class ESPALIER_API ConfigReader {
 public:
  explicit ConfigReader(const Value& config) : config_(config) {}

  /// nullptr when absent or null.
  const Value* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }

  /// A whole number greater than zero.
  std::int64_t size(const std::string& key) const;
  std::int64_t size(const std::string& key, std::int64_t fallback) const;
  double number(const std::string& key, double fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;

  /// Throws unless `condition`: "config.json: <key> ..., found ..., expected ...".
  void require(bool condition, const std::string& key, const std::string& expected) const;

 private:
  const Value& config_;
};

}  // namespace espalier
