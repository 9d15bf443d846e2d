#pragma once

#include <string>
#include <vector>

#include "espalier/base/value.h"

namespace espalier::text {

/// tokenizer_config.json of a folder, and what transformers makes of it for a tokenizer that it has
/// to put together itself.
class FolderConfig {
 public:
  explicit FolderConfig(const std::string& folder);

  /// The class without "Fast"; from the model type of config.json where the file names none.
  const std::string& tokenizer_class() const { return class_; }
  bool flag(std::string_view key, bool fallback) const;
  std::int64_t integer(std::string_view key, std::int64_t fallback) const;
  /// A special token ("bos_token", ...); `fallback` when the file has none, "" for null.
  std::string token(std::string_view role, const std::string& fallback) const;
  /// `added_tokens_decoder` by id, in the order of ids.
  std::vector<std::pair<std::int64_t, Table>> added_tokens() const;
  /// Where the file is.
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  Value config_;
  std::string class_;
};

}  // namespace espalier::text
