#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"

namespace espalier::text {

/// A value of tokenizer.json with its path, so that each error names file and key. Cheap to copy;
/// valid as long as the parser that made it.
class JsonNode {
 public:
  JsonNode(simdjson::dom::element element, const std::string& file, std::string path)
      : element_(element), file_(&file), path_(std::move(path)) {}

  bool is_null() const { return element_.is_null(); }
  bool is_object() const { return element_.is_object(); }
  bool is_string() const { return element_.is_string(); }
  bool is_array() const { return element_.is_array(); }
  const simdjson::dom::element& raw() const { return element_; }
  const std::string& path() const { return path_; }

  /// The key has to be there; it may be null.
  JsonNode at(std::string_view key) const;
  /// Nothing when the key is missing or null.
  std::optional<JsonNode> find(std::string_view key) const;
  std::vector<JsonNode> items() const;
  /// Keys and values in the order of the file.
  std::vector<std::pair<std::string, JsonNode>> members() const;

  std::string as_string() const;
  bool as_bool() const;
  double as_number() const;
  std::int64_t as_int() const;
  std::int64_t as_int(std::int64_t least, std::int64_t most) const;

  std::string string_or(std::string_view key, std::string fallback) const;
  bool bool_or(std::string_view key, bool fallback) const;

  /// "file: key"
  std::string where() const { return *file_ + ": " + (path_.empty() ? "the document" : path_); }
  [[noreturn]] void fail(std::string what, std::string found, std::string expected) const;

 private:
  [[noreturn]] void wrong_type(std::string_view expected) const;

  simdjson::dom::element element_;
  const std::string* file_;
  std::string path_;
};

}  // namespace espalier::text
